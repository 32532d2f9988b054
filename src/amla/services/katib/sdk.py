"""NAC for the ``OptimizerClient`` of Kubeflow's SDK (``pip install 'amla[kubeflow]'``)::

    from kubeflow.optimizer import OptimizerClient
    from amla.services.katib.sdk import NAC, job

    OptimizerClient().optimize(**job("cifar10", image="REGISTRY/amla:katib"))

The SDK writes Experiments of ``parameters`` and TrainJobs alone: what a suggestion carries are placeholder categories, as with
``amla katib experiment --form parameters``. It has no ``nasConfig``, no strategies of metrics, no early stopping, no volumes and
no Jobs; that command writes them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeflow.optimizer import Objective, TrainJobTemplate, TrialConfig
from kubeflow.optimizer.types.algorithm_types import ALGORITHM_REGISTRY, BaseAlgorithm
from kubeflow.trainer import CustomTrainer, Runtime
from kubeflow_katib_api import models
from pydantic import JsonValue

from amla import datasets
from amla.engine.options import spec_of
from amla.errors import ConfigError
from amla.services.katib import manifest
from amla.services.katib.parameters import CARRIED
from amla.services.katib.templates import IMAGE, Pod
from amla.services.katib.trial import Place, run
from amla.spec.data import DatasetSpec


@dataclass
class NAC(BaseAlgorithm):
    """Katib's algorithm ``nac``: ``settings`` by the names of docs/kubeflow.md, above all ``train_size``, ``input_sizes`` and
    ``output_sizes``. ``job`` fills them in from a dataset."""

    settings: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def algorithm_name(self) -> str:
        return "nac"

    def _to_katib_spec(self) -> Any:
        texts = {name: manifest.text_of_setting(value) for name, value in self.settings.items()}
        settings = [models.V1beta1AlgorithmSetting(name=name, value=text) for name, text in texts.items()]
        return models.V1beta1AlgorithmSpec(algorithmName=self.algorithm_name, algorithmSettings=settings)


#: By this the SDK recognises an Experiment of ours when it lists jobs; settings it does not give back.
ALGORITHM_REGISTRY[NAC().algorithm_name] = NAC


@dataclass
class Site:
    """What a trial is given besides its suggestion."""

    image: str = IMAGE
    runtime: str | Runtime | None = None
    resources: dict[str, Any] | None = None
    env: dict[str, str] | None = None
    artifacts: str | None = None


def job(
    dataset: str, *, name: str = "nac", site: Site | None = None, parallel: int = 1, **options: Any
) -> dict[str, Any]:
    """The arguments of ``OptimizerClient.optimize`` for a whole search; ``options`` are those of ``amla search`` (``width=12``).

    The dataset is read here, for its sizes. ``name`` is that of the folder below the artifacts. Errors: ``AmlaError``.
    """
    place = site or Site()
    spec = spec_of({**options, "dataset": dataset, "searcher": "nac"})
    if spec.hyperparameters:
        raise ConfigError("hyperparameters: 'nac' searches none")
    pod = Pod(kind="TrainJob", image=place.image, artifacts=place.artifacts)
    form = manifest.Form(name=name, parameters="parameters", parallel=parallel, pod=pod)
    body = manifest.experiment(spec, datasets.load(spec.dataset).info, form)["spec"]
    objective = body["objective"]
    fixed = {
        "experiment": name,
        "dataset": spec.dataset.to_json(),
        "trainer": spec.trainer,
        "threads": str(spec.resources.threads),
        "artifacts": place.artifacts or "",
    }
    trainer = CustomTrainer(
        func=amla_trial, func_args=fixed, image=place.image, resources_per_node=place.resources, env=place.env
    )
    return {
        "trial_template": TrainJobTemplate(trainer=trainer, runtime=place.runtime),
        "trial_config": TrialConfig(body["maxTrialCount"], parallel, body["maxFailedTrialCount"]),
        "search_space": {one["name"]: models.V1beta1ParameterSpec.from_dict(one) for one in body["parameters"]},
        "objectives": [
            Objective(metric, objective["type"])
            for metric in (objective["objectiveMetricName"], *objective["additionalMetricNames"])
        ],
        "algorithm": NAC({one["name"]: one["value"] for one in body["algorithm"]["algorithmSettings"]}),
    }


def amla_trial(**told: str) -> None:
    """What a TrainJob runs. The SDK sends this function as text, so that everything that it needs stands in it."""
    from amla.services.katib.sdk import run_trial

    run_trial(told)


def run_trial(told: Mapping[str, str]) -> None:
    """Train the network of a suggestion; everything comes as texts. Errors: as ``trial.run``."""
    place = Place(
        experiment=told["experiment"],
        dataset=DatasetSpec.from_json(told["dataset"]),
        trainer=told["trainer"],
        threads=int(told["threads"]),
        artifacts=told["artifacts"] or None,
    )
    missing = next((name for name in CARRIED if name not in told), None)
    if missing is not None:
        raise ConfigError(f"{missing}: a suggestion has it; pass the search space of `job` on as it is")
    run(told["architecture"], told["trial"], place, _say)


def _say(line: str) -> None:
    """The collector reads while the trial runs."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
