"""The manifests: valid by Kubernetes' own schemas, and of one piece with the images and the code."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import arch_bench
import kubernetes_validate
import pytest
from support.command_line import unknown
from support.dockerfiles import DOCKER, compose, documents

K8S = DOCKER / "k8s"
KUSTOMIZATIONS = sorted(K8S.rglob("kustomization.yaml"))
MANIFESTS = sorted(path for path in K8S.rglob("*.yaml") if path.name != "kustomization.yaml")
# KubeRay's, whose schema comes with no package; its pods are Kubernetes' own.
CUSTOM = ("RayJob",)


def objects() -> dict[str, Any]:
    return {f"{one['kind']}/{one['metadata']['name']}": one for path in MANIFESTS for one in documents(path)}


def pods() -> Iterator[tuple[str, Any]]:
    for name, one in objects().items():
        if one["kind"] in ("Deployment", "Job"):
            yield name, one["spec"]["template"]
        elif one["kind"] == "RayJob":
            cluster = one["spec"]["rayClusterSpec"]
            for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
                yield name, group["template"]


@pytest.mark.parametrize("name", sorted(objects()))
def test_it_is_valid(name: str) -> None:
    one = objects()[name]
    if one["kind"] not in CUSTOM:
        kubernetes_validate.validate(one, "1.32", strict=True)


@pytest.mark.parametrize(("name", "pod"), list(pods()))
def test_the_pod_is_valid_and_has_no_rights(name: str, pod: Any) -> None:
    template = {"metadata": {"name": "one"}, "spec": pod["spec"]}
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **template}, "1.32", strict=True)
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    claims = {key.partition("/")[2] for key in objects() if key.startswith("PersistentVolumeClaim/")}
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    for volume in volumes.values():
        assert volume.get("persistentVolumeClaim", {"claimName": "data"})["claimName"] in claims
    for container in pod["spec"]["containers"]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)


def test_ports_and_probes_are_tritons() -> None:
    (container,) = objects()["Deployment/triton"]["spec"]["template"]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    arguments = inspect.signature(arch_bench.serve).parameters
    assert ports == {name: arguments[f"{name}_port"].default for name in ("http", "grpc", "metrics")}
    assert container["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
    served = {one["name"]: one["port"] for one in objects()["Service/triton"]["spec"]["ports"]}
    assert served == ports
    annotations = objects()["Deployment/triton"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["metrics"])


@pytest.mark.torch
def test_tensorrt_finds_its_engines_again() -> None:
    from arch_export.repository.triton_config import TENSORRT_CACHE

    (container,) = objects()["Deployment/triton"]["spec"]["template"]["spec"]["containers"]
    kept = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly") and one["name"] != "shm"}
    assert kept == {TENSORRT_CACHE}
    assert f"tensorrt:{TENSORRT_CACHE}" in compose()["services"]["triton-gpu"]["volumes"]
    assert f"1000 {TENSORRT_CACHE}\n" in (DOCKER / "triton.Dockerfile").read_text()


def test_the_policy_lets_in_the_bench_and_nobody_to_http() -> None:
    policy = objects()["NetworkPolicy/triton"]["spec"]
    app = objects()["Deployment/triton"]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= app.items()
    opened = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert opened == {8001, 8002}
    (role,) = [one for rule in policy["ingress"] for one in rule["from"] if "podSelector" in one]
    benches = [pod["metadata"]["labels"] for name, pod in pods() if not name.startswith("Deployment")]
    assert all(role["podSelector"]["matchLabels"].items() <= labels.items() for labels in benches)


def test_the_commands_exist() -> None:
    (container,) = objects()["Job/bench"]["spec"]["template"]["spec"]["containers"]
    assert unknown(container["args"]) == []
    arch, *words = shlex.split(objects()["RayJob/bench"]["spec"]["entrypoint"])
    assert (arch, unknown(words)) == ("arch", [])
    text = (K8S / "overlays" / "several-servers" / "kustomization.yaml").read_text()
    (line,) = [line for line in text.splitlines() if "value: [bench" in line]
    words = line.partition("[")[2].rstrip("]").replace('"', "").split(", ")
    assert unknown(words) == []
    assert [words[i + 1] for i, word in enumerate(words) if word == "--server"] == ["triton-a:8001", "triton-b:8001"]


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.relative_to(K8S).as_posix())
def test_what_a_kustomization_takes_is_there(path: Path) -> None:
    (one,) = documents(path)
    for taken in (*one.get("resources", []), *one.get("components", [])):
        target = path.parent / taken
        assert target.is_file() or (target / "kustomization.yaml").is_file(), taken
    named = {target["patch"].get("target", {}).get("kind") for target in [{"patch": p} for p in one.get("patches", [])]}
    assert named <= {None, "Deployment", "Job"}


def test_the_ray_of_the_cluster_is_the_images() -> None:
    pinned = (DOCKER.parent / "constraints.txt").read_text().splitlines()
    assert f"ray=={objects()['RayJob/bench']['spec']['rayClusterSpec']['rayVersion']}" in pinned
