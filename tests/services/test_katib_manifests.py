"""Every manifest is what Kubernetes and Katib take."""

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubeflow_katib_api import models
from kubeflow_trainer_api import models as trainer_models

from amla import datasets, registry
from amla.engine.options import spec_of
from amla.errors import ConfigError
from amla.services.katib import crd, flat, manifest, setup, templates
from amla.services.katib.config import config
from amla.services.katib.manifest import Form
from amla.services.katib.setup import LONGEST, algorithm_name
from amla.spec.data import DatasetInfo, DatasetSpec

DEPLOY = Path(__file__).parents[2] / "deploy" / "katib"
DIGITS = DatasetInfo(
    name="digits", shape=(8, 8, 1), classes=tuple("0123456789"), sizes={"train": 1455, "valid": 162, "test": 180},
    mean=(0.3,), std=(0.3,),
)  # fmt: skip
#: As ``datasets.load`` gives them.
DIGITS_HERE = datasets.load(DatasetSpec(name="digits")).info
RATE = {"schedule.rate": {"kind": "real", "low": 0.01, "high": 0.5, "log": True}}


def made(pod: dict[str, Any] | None = None, form: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    spec = spec_of({"dataset": "digits", "width": 12, **options})
    return manifest.experiment(spec, DIGITS, Form.parse({"name": "one", "pod": pod or {}, **(form or {})}))


def check_experiment(found: dict[str, Any]) -> None:
    parsed = models.V1beta1Experiment.from_dict(json.loads(json.dumps(found)))
    assert parsed is not None
    assert json.loads(parsed.to_json()) == found  # no key that Katib does not know
    template = found["spec"]["trialTemplate"]
    if template["trialSpec"]["kind"] == "Job":
        job = {**template["trialSpec"], "metadata": {"name": "trial"}}
        kubernetes_validate.validate(job, "1.30", strict=True)
    else:
        job = {**template["trialSpec"], "metadata": {"name": "trial"}}
        understood = trainer_models.TrainerV1alpha1TrainJob.from_dict(json.loads(json.dumps(job)))
        assert json.loads(understood.to_json()) == job
    text = json.dumps(template["trialSpec"])
    assert set(re.findall(r"\$\{trialParameters\.(\w+)\}", text)) == {
        one["name"] for one in template["trialParameters"]
    }


@pytest.mark.parametrize("kind", ["Job", "TrainJob"])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"searcher": "evolution", "space": "nasbench201"},
        {"searcher": "random", "hyperparameters": RATE, "form": {"parameters": "parameters", "parallel": 3}},
        {"searcher": "random", "space": "nasbench201", "hyperparameters": RATE, "form": {"parameters": "flat"}},
    ],
    ids=["nac", "evolution", "parameters", "flat"],
)
def test_an_experiment(kind, asked):
    options = {"width": 4} | {key: value for key, value in asked.items() if key != "form"}
    if asked.get("space") is None:
        options["width"] = 12
    pod = {"kind": kind, "artifacts_claim": "shared", "artifacts": "/artifacts", "gpus": 1, "service_account": "me"}
    pod |= {"env_secret": "s3"} if kind == "Job" else {}
    check_experiment(made(pod, asked.get("form"), **options))


def test_the_service_understands_what_was_asked_for():
    found = made(searcher="evolution", trials=7, settings={"population": 3}, seed=4, epochs=2.0)
    understood = setup.setup_of(crd.experiment_message(found))
    assert understood.problem.trials == 7
    assert understood.problem.seed == 4
    assert understood.problem.final_budget.epochs == 2.0
    assert understood.spec.settings == {"population": 3}
    assert found["spec"]["maxTrialCount"] == 8  # and the training to the end


def test_early_stopping_is_asked_for():
    asked = {"early_stopping": "successive-halving,eta=4,rungs=2"}
    found = made(form=asked, searcher="evolution")
    check_experiment(found)
    settings = [{"name": "eta", "value": "4"}, {"name": "rungs", "value": "2"}]
    assert found["spec"]["earlyStopping"] == {"algorithmName": "successive-halving", "algorithmSettings": settings}
    for wrong, named in (("best", "best"), ("successive-halving,eta", "KEY=VALUE"), ("amla-medianstop,eta=4", "eta")):
        with pytest.raises(ConfigError, match=named):
            made(form={"early_stopping": wrong}, searcher="evolution")
    with pytest.raises(ConfigError, match="run to its end"):
        made(form=asked)  # nac reads what a trial finds out at its end


def test_what_katib_cannot_do_is_an_error():
    with pytest.raises(ConfigError, match="env_secret"):
        made({"kind": "TrainJob", "env_secret": "s3"})
    with pytest.raises(ConfigError, match="time_budget"):
        made(time_budget=60.0)
    with pytest.raises(ConfigError, match="form parameters"):
        made(searcher="random", hyperparameters=RATE)


def test_a_flat_trial_is_what_the_decisions_say():
    found = made(form={"parameters": "flat"}, space="nasbench201", width=4, searcher="random", hyperparameters=RATE)
    environment = {
        one["name"]: one["value"]
        for one in found["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    decisions = re.sub(r"\$\{trialParameters\.edge_\d_\d\}", "3x3", environment["AMLA_DECISIONS"])
    decisions = decisions.replace("${trialParameters.schedule_rate}", "0.25")
    spec, _ = flat.trial_of(environment["AMLA_SEARCH"], decisions, DatasetSpec(name="digits"))
    assert spec.training.schedule.rate == 0.25
    assert spec.architecture.cells["cell"].nodes[0].operation == "3x3"


def test_algorithm_names_are_free_labels():
    names = [one["algorithmName"] for one in config(["nac", "random", "successive_halving"])["runtime"]["suggestions"]]
    assert names == ["nac", "amla-random", "successive-halving"]
    assert all(setup.searcher_of(algorithm_name(name)) == name for name in ("tpe", "zero_cost", "local_search"))
    with pytest.raises(ConfigError):
        algorithm_name("x" * (LONGEST + 1))


CIFAR = DatasetInfo(
    name="cifar10", shape=(32, 32, 3), classes=tuple(map(str, range(10))), flip=True,
    sizes={"train": 45_000, "valid": 5_000, "test": 10_000}, mean=(0.5,) * 3, std=(0.25,) * 3,
)  # fmt: skip
#: ILSVRC 2012, whose labelled images are 1,281,167 and 50,000: a tenth of the former is cut off as a test split.
IMAGENET = DatasetInfo(
    name="folder", shape=(224, 224, 3), classes=tuple(map(str, range(1000))), flip=True,
    sizes={"train": 1_281_167 - 128_117, "valid": 50_000, "test": 128_117}, mean=(0.5,) * 3, std=(0.25,) * 3,
)  # fmt: skip
ARTIFACTS = {"artifacts": "/artifacts", "artifacts_claim": "amla-artifacts"}
GPU = ARTIFACTS | {"data_claim": "amla-data", "gpus": 1, "image": f"{templates.IMAGE}-gpu"}
JOINT = {"early_stopping": "amla-medianstop,start_step=3", "parameters": "parameters", "parallel": 4}
#: File -> data, options of a search, of its pods, and of the Experiment besides.
DEPLOYED: dict[str, tuple[DatasetInfo, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "digits": (DIGITS_HERE, {"dataset": "digits"}, ARTIFACTS, {}),
    "cifar10": (
        CIFAR,
        {"dataset": "cifar10", "epochs": 60, "search_epochs": 4},
        GPU | {"cpu": "4", "memory": "16Gi"},
        {},
    ),
    "cifar10-trainjob": (
        CIFAR,
        {"dataset": "cifar10", "epochs": 60, "search_epochs": 4},
        GPU | {"kind": "TrainJob", "cpu": "4", "memory": "16Gi"},
        {},
    ),
    "cifar10-joint": (
        CIFAR,
        {
            "dataset": "cifar10",
            "searcher": "random",
            "trials": 40,
            "search_epochs": 10,
            "epochs": 60,
            "hyperparameters": RATE,
        },
        GPU | {"cpu": "4", "memory": "16Gi"},
        JOINT,
    ),
    "imagenet": (
        IMAGENET,
        {"dataset": "folder:/data/imagenet", "image_size": 224, "epochs": 90, "search_epochs": 5},
        GPU | {"cpu": "8", "memory": "64Gi"},
        {},
    ),
}


@pytest.mark.parametrize("name", DEPLOYED)
def test_an_experiment_in_deploy_is_the_one_that_is_written(name, golden):
    """So they follow whatever an Experiment has to have."""
    info, options, pod, besides = DEPLOYED[name]
    searcher = options.get("searcher", "nac")
    form = Form.parse({"name": f"{searcher}-{name}", "pod": pod, **besides})
    golden(DEPLOY / f"{name}.yaml", manifest.text_of(manifest.experiment(spec_of(options), info, form)))


def test_the_entry_in_deploy_has_every_searcher(golden):
    golden(DEPLOY / "katib-config.yaml", yaml.safe_dump(config(registry.names("searchers")), sort_keys=False))


def documents() -> list[Any]:
    texts = [(path.name, path.read_text()) for path in sorted(DEPLOY.glob("*.yaml"))]
    return [
        pytest.param(found, id=f"{name} {found['kind']}") for name, text in texts for found in yaml.safe_load_all(text)
    ]


def test_the_page_has_the_manifest_of_the_served_network():
    blocks = re.findall(r"```yaml\n(.*?)```", (DEPLOY.parents[1] / "docs" / "kubeflow.md").read_text(), re.DOTALL)
    assert yaml.safe_load(blocks[-1]) == yaml.safe_load((DEPLOY / "inference.yaml").read_text())


@pytest.mark.parametrize("found", documents())
def test_what_is_in_deploy(found):
    if found["kind"] == "Experiment":
        check_experiment(found)
        setup.check(crd.experiment_message(found))
    elif found["kind"] == "KatibConfig":
        for one in (*found["runtime"]["suggestions"], *found["runtime"]["earlyStoppings"]):
            container = {"name": "suggestion", **{k: v for k, v in one.items() if k != "algorithmName"}}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": {"containers": [container]}}
            kubernetes_validate.validate(pod, "1.30", strict=True)
    elif found["kind"] == "InferenceService":  # KServe's schema is not at hand: only its place in the API is looked at
        assert found["apiVersion"] == "serving.kserve.io/v1beta1"
    else:
        kubernetes_validate.validate(found, "1.30", strict=True)
