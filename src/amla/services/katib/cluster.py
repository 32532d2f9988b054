"""The Trials of the cluster that the service runs in: the one thing of it that the service ever changes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from amla.errors import ConfigError

GROUP, VERSION, TRIALS = "kubeflow.org", "v1beta1", "trials"
STOPPED = "EarlyStopped"
#: Where a pod finds the namespace that it is in.
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
#: How often a change is tried, where Katib's controller changes the same Trial at the same time; seconds that a call may take.
TRIES, PATIENCE = 5, 20
CONFLICT = 409


def stop_trial(name: str) -> None:
    """Add the condition that a Trial was stopped early; once is enough. Errors: ``ConfigError`` where that is not possible."""
    trials, namespace = _connected()
    for _ in range(TRIES):
        try:
            trial = trials.get_namespaced_custom_object(
                GROUP, VERSION, namespace, TRIALS, name, _request_timeout=PATIENCE
            )
            changed = _stopped(trial)
            if changed is not None:
                trials.patch_namespaced_custom_object_status(
                    GROUP, VERSION, namespace, TRIALS, name, changed, _request_timeout=PATIENCE
                )
        except client.ApiException as error:
            if error.status == CONFLICT:
                continue
            raise ConfigError(f"trial {namespace}/{name}: the cluster answers {error.status} {error.reason}") from None
        except urllib3.exceptions.HTTPError as error:
            raise ConfigError(f"trial {namespace}/{name}: the cluster does not answer: {error}") from None
        return
    raise ConfigError(f"trial {namespace}/{name}: it was changed by others {TRIES} times while it was to be stopped")


def _stopped(trial: dict[str, Any]) -> dict[str, Any] | None:
    """What is to be changed of a Trial, at the very version that was read; None where it is stopped already."""
    conditions = trial.get("status", {}).get("conditions", [])
    if any(one["type"] == STOPPED and one["status"] == "True" for one in conditions):
        return None
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {
        "type": STOPPED,
        "status": "True",
        "reason": "TrialEarlyStopped",
        "message": "Trial is early stopped",
        "lastUpdateTime": now,
        "lastTransitionTime": now,
    }
    version = trial["metadata"]["resourceVersion"]
    return {"metadata": {"resourceVersion": version}, "status": {"conditions": [*conditions, condition]}}


def _connected() -> tuple[Any, str]:
    """The API and the namespace: of the pod, else of the user's own configuration. Errors: ``ConfigError``."""
    settings = client.Configuration()
    try:
        if NAMESPACE.is_file():
            config.load_incluster_config(client_configuration=settings)
            namespace = NAMESPACE.read_text().strip()
        else:
            config.load_kube_config(client_configuration=settings)
            namespace = config.list_kube_config_contexts()[1]["context"].get("namespace", "default")
    except config.ConfigException as error:
        raise ConfigError(f"no cluster is at hand: {error}") from None
    return client.CustomObjectsApi(client.ApiClient(settings)), namespace
