"""NAC through the real SDK of Kubeflow, its client talking to an API on loopback."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from katib_cluster import Cluster, served
from katib_controller import collected, rendered

from amla.services.katib import crd, setup, suggestion
from amla.services.katib.wire import message

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's own, at its import
    from kubeflow.common.types import KubernetesBackendConfig
    from kubeflow.optimizer import OptimizerClient
    from kubeflow.trainer import Runtime
    from kubeflow.trainer.constants.constants import DEFAULT_COMMAND
    from kubeflow.trainer.types.types import RuntimeKind, RuntimeTrainer, TrainerType

    from amla.services.katib.sdk import NAC, Site, job

OPTIONS = {"width": 6, "limit": 300, "steps": 12, "search_steps": 4, "iterations": 2}


def site() -> Site:
    """A runtime as the cluster would tell of one, that needs no torchrun."""
    trainer = RuntimeTrainer(trainer_type=TrainerType.CUSTOM_TRAINER, framework="torch", image="any")
    trainer.set_command(DEFAULT_COMMAND)
    runtime = Runtime(name="torch-distributed", trainer=trainer, kind=RuntimeKind.CLUSTER_TRAINING_RUNTIME)
    return Site(image="registry/amla:katib", runtime=runtime)


@pytest.fixture
def created(tmp_path: Path) -> Any:
    """The Experiment that the client made, and what the client says of it."""
    cluster = Cluster()
    with served(cluster, tmp_path) as file:
        client = OptimizerClient(KubernetesBackendConfig(namespace="team", config_file=str(file)))
        name = client.optimize(**job("digits", site=site(), **OPTIONS))
        yield cluster.objects["team", "experiments", name], client.get_job(name)


def test_the_service_understands_what_the_client_made(created):
    experiment, told = created
    understood = setup.check(crd.experiment_message(experiment))
    assert understood.spec.searcher == "nac"
    assert understood.spec.settings["iterations"] == 2
    assert understood.problem.input_shape == (1, 8, 8)
    assert experiment["spec"]["maxTrialCount"] == 3
    assert isinstance(told.algorithm, NAC)
    assert (told.trial_config.num_trials, told.objectives[0].metric) == (3, "valid_accuracy")


@pytest.mark.slow
def test_a_trial_of_the_client_trains(created, tmp_path):
    """The script that the SDK made of it, with a suggestion of ours in it."""
    experiment, _ = created
    request = message("GetSuggestionsRequest")(
        experiment=crd.experiment_message(experiment), current_request_number=1, total_request_number=1
    )
    (given,) = suggestion.reply_of(request).parameter_assignments
    template = experiment["spec"]["trialTemplate"]
    train_job = rendered(template, {one.name: one.value for one in given.assignments})
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        train_job["spec"]["trainer"]["command"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    objective = experiment["spec"]["objective"]
    wanted = [objective["objectiveMetricName"], *objective["additionalMetricNames"]]
    assert set(collected(done.stdout, wanted)) >= {"valid_accuracy", "nac_000", "parameters"}
