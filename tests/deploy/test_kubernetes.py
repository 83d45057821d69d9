"""deploy/kubernetes by Kubernetes' own schemas (of the package kubernetes-validate), and what it promises of its pods.

KEDA's two kinds have no schema there: of these it is checked that they name what is.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from inference_worker.settings import Settings
from ingest.contract import posts_topic

ROOT: Final = Path(__file__).parent.parent.parent
FOLDER: Final = ROOT / "deploy" / "kubernetes"
VERSION: Final = "1.37"
KEDA: Final = "keda.sh/v1alpha1"
MANIFESTS: Final[dict[str, dict[str, Any]]] = {
    f"{path.relative_to(FOLDER)}: {document['kind']} {document['metadata']['name']}": document
    for path in sorted(FOLDER.rglob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}
PODS: Final = [name for name, document in MANIFESTS.items() if document["kind"] == "Deployment"]
SCALED: Final = [name for name, document in MANIFESTS.items() if document["kind"] == "ScaledObject"]


def all_of(kind: str) -> list[dict[str, Any]]:
    return [document for document in MANIFESTS.values() if document["kind"] == kind]


@pytest.mark.parametrize("name", [name for name, document in MANIFESTS.items() if document["apiVersion"] != KEDA])
def test_a_manifest_is_valid_by_kubernetes_schema(name: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], VERSION, strict=True)


def test_the_check_finds_a_field_nobody_knows() -> None:
    wrong = copy.deepcopy(MANIFESTS[PODS[0]])
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


@pytest.mark.parametrize("name", PODS)
def test_a_pod_may_do_nothing_but_its_work(name: str) -> None:
    pod = MANIFESTS[name]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"} and container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", PODS)
def test_a_probe_asks_a_port_there_is(name: str) -> None:
    (container,) = MANIFESTS[name]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    asked = {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked <= ports


@pytest.mark.parametrize("name", PODS)
def test_what_a_container_mounts_is_a_volume_of_its_pod(name: str) -> None:
    pod = MANIFESTS[name]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_found_by_its_own_labels(name: str) -> None:
    deployment = MANIFESTS[name]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == deployment["metadata"]["labels"]


def test_a_worker_has_longer_to_stop_than_it_needs_to_drain() -> None:
    for name in PODS:
        pod = MANIFESTS[name]["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] > Settings.drain_timeout_s


def test_budgets_and_services_point_at_pods_there_are() -> None:
    labels = [document["spec"]["template"]["metadata"]["labels"] for document in all_of("Deployment")]
    budgets = [document["spec"]["selector"]["matchLabels"] for document in all_of("PodDisruptionBudget")]
    services = [document["spec"]["selector"] for document in all_of("Service")]
    assert len(budgets) == 4 and all(selector in labels for selector in [*budgets, *services])


@pytest.mark.parametrize("name", SCALED)
def test_a_scaler_watches_what_its_workers_read(name: str) -> None:
    (configuration,) = all_of("ConfigMap")
    told = configuration["data"]
    scaled = MANIFESTS[name]["spec"]
    (trigger,) = scaled["triggers"]
    assert scaled["scaleTargetRef"]["name"] in {document["metadata"]["name"] for document in all_of("Deployment")}
    assert trigger["metadata"]["topic"] == posts_topic(told["MOODSTREAM_NAMESPACE"])
    assert trigger["metadata"]["consumerGroup"] == Settings(namespace=told["MOODSTREAM_NAMESPACE"]).consumer_group
    assert trigger["metadata"]["bootstrapServers"] == told["MOODSTREAM_KAFKA"]
    assert scaled["maxReplicaCount"] == int(told["MOODSTREAM_PARTITIONS"])
    assert trigger["authenticationRef"]["name"] in {
        document["metadata"]["name"] for document in all_of("TriggerAuthentication")
    }


def test_a_secret_is_nowhere_but_in_secrets() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.yaml"))
    assert "kind: Secret\n" not in text and "PASSWORD, value" not in text
