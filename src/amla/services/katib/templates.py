"""``trialTemplate``: the Job, or the TrainJob, that runs one trial."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from amla.errors import ConfigError
from amla.spec.base import Document
from amla.spec.experiment import ExperimentSpec

IMAGE = "ghcr.io/amla/amla:1.0.0"
#: Names of the container that Katib watches.
PRIMARY = {"Job": "training-container", "TrainJob": "node"}
#: Who patches the runtime of a TrainJob.
MANAGER = "trainer.kubeflow.org/amla"
#: Where volumes are mounted.
DATA, ARTIFACTS = "/data", "/artifacts"


class Pod(Document):
    """What a trial's pod is given."""

    kind: Literal["Job", "TrainJob"] = "Job"
    image: str = IMAGE
    cpu: str = "1"
    memory: str = "4Gi"
    gpus: int = Field(0, ge=0)
    gpu_resource: str = "nvidia.com/gpu"
    artifacts: str | None = Field(None, description="URL that all trials reach; a path lies in artifacts_claim")
    artifacts_claim: str | None = Field(None, description="PersistentVolumeClaim mounted at /artifacts")
    data_claim: str | None = Field(None, description="PersistentVolumeClaim mounted at /data")
    env_secret: str | None = Field(None, description="Secret whose keys are in the environment, for S3 say")
    service_account: str | None = None


def template(
    spec: ExperimentSpec, pod: Pod, experiment: str, names: Sequence[str], more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The trial template; ``names`` are those of all assignments, which come in by environment variables that no shell sees.

    ``more``: variable -> value, in the place of those that carry a suggestion.
    """
    values = more if more is not None else {f"AMLA_{key(name).upper()}": reference(name) for name in names}
    environment = {**values, **_fixed(spec, pod, experiment)}
    container = {
        "image": pod.image,
        "command": ["amla", "katib", "trial"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
    }
    trial = _job(container, pod) if pod.kind == "Job" else _train_job(container, pod)
    return {
        "primaryContainerName": PRIMARY[pod.kind],
        "successCondition": 'status.conditions.#(type=="Complete")#|#(status=="True")#',
        "failureCondition": 'status.conditions.#(type=="Failed")#|#(status=="True")#',
        "trialParameters": [{"name": key(name), "reference": name} for name in names],
        "trialSpec": trial,
    }


def key(name: str) -> str:
    """A parameter's name inside the template."""
    return name.replace(".", "_").replace("/", "_").replace("-", "_")


def reference(name: str) -> str:
    """What Katib replaces by the value of a parameter."""
    return f"${{trialParameters.{key(name)}}}"


def _fixed(spec: ExperimentSpec, pod: Pod, experiment: str) -> dict[str, str]:
    """What is the same for all trials."""
    dataset = spec.dataset
    if pod.data_claim:
        dataset = dataset.model_copy(update={"data_dir": DATA})
    found = {
        "AMLA_EXPERIMENT": experiment,
        "AMLA_DATASET": json.dumps(dataset.model_dump(mode="json", exclude_defaults=True)),
        "AMLA_TRAINER": spec.trainer,
    }
    if spec.resources.threads:
        found["AMLA_THREADS"] = str(spec.resources.threads)
    if pod.artifacts:
        found["AMLA_ARTIFACTS"] = pod.artifacts
    return found


def _resources(pod: Pod) -> dict[str, Any]:
    given: dict[str, Any] = {"cpu": pod.cpu, "memory": pod.memory}
    if pod.gpus:
        given[pod.gpu_resource] = str(pod.gpus)
    return {"requests": dict(given), "limits": dict(given)}


def _volumes(pod: Pod) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes, and where they are mounted. Loaders of data share memory."""
    claims = {"artifacts": (pod.artifacts_claim, ARTIFACTS), "data": (pod.data_claim, DATA)}
    volumes: list[dict[str, Any]] = [{"name": "shm", "emptyDir": {"medium": "Memory"}}]
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}]
    for name, (claim, path) in claims.items():
        if claim:
            volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
            mounts.append({"name": name, "mountPath": path})
    return volumes, mounts


def _job(container: dict[str, Any], pod: Pod) -> dict[str, Any]:
    volumes, mounts = _volumes(pod)
    whole: dict[str, Any] = {"name": PRIMARY["Job"], **container, "resources": _resources(pod), "volumeMounts": mounts}
    if pod.env_secret:
        whole["envFrom"] = [{"secretRef": {"name": pod.env_secret}}]
    whole["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    body: dict[str, Any] = {"restartPolicy": "Never", "containers": [whole], "volumes": volumes}
    if pod.service_account:
        body["serviceAccountName"] = pod.service_account
    metadata = {"annotations": {"sidecar.istio.io/inject": "false"}}
    job = {"backoffLimit": 1, "template": {"metadata": metadata, "spec": body}}
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": job}


def _train_job(container: dict[str, Any], pod: Pod) -> dict[str, Any]:
    """Kubeflow Trainer's job (from Trainer 2.2 on), on the runtime that it brings; volumes go over the runtime's pod."""
    volumes, mounts = _volumes(pod)
    over: dict[str, Any] = {"volumes": volumes, "containers": [{"name": "node", "volumeMounts": mounts}]}
    if pod.service_account:
        over["serviceAccountName"] = pod.service_account
    node = {"name": "node", "template": {"spec": {"template": {"spec": over}}}}
    patch = {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [node]}}}}
    trainer = {**container, "numNodes": 1, "resourcesPerNode": _resources(pod)}
    if pod.env_secret:
        raise ConfigError(
            "env_secret: a TrainJob takes no Secret whole; put its keys into the runtime, or take --kind Job"
        )
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "spec": {"runtimeRef": {"name": "torch-distributed"}, "trainer": trainer, "runtimePatches": [patch]},
    }
