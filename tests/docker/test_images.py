"""The Dockerfiles and compose.yaml: linted, and each path, port, user and option in them is what there is."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import arch_bench
import pytest
from dockerfile_parse import DockerfileParser
from support.command_line import unknown
from support.dockerfiles import DOCKER, ROOT, compose

DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
SECRET = re.compile(r"(?i)token|secret|password|passwd|api_?key")


def instructions(path: Path) -> list[tuple[str, str]]:
    parser = DockerfileParser(fileobj=path.open("rb"))
    return [(one["instruction"], one["value"]) for one in parser.structure]


def values(path: Path, instruction: str) -> list[str]:
    return [value for name, value in instructions(path) if name == instruction]


def test_there_are_three() -> None:
    assert [path.stem for path in DOCKERFILES] == ["bench", "export", "triton"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path: Path) -> None:
    lint = subprocess.run([Path(sys.executable).with_name("hadolint"), path], capture_output=True, text=True)
    assert (lint.returncode, lint.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_is_copied_is_there_and_sent_to_the_engine(path: Path) -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for value in values(path, "COPY"):
        words = shlex.split(value)
        if any(word.startswith("--from=") for word in words):
            continue
        *sources, _ = [word for word in words if not word.startswith("--")]
        assert set(sources) <= sent
        assert all((ROOT / source).exists() for source in sources), sources


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_it_is_pinned_and_runs_as_nobody_in_particular(path: Path) -> None:
    for base in values(path, "FROM"):
        assert re.fullmatch(r"\S+:\d+\.\d+\S*( AS build)?", base), base
    names = [name for name, _ in instructions(path)]
    assert values(path, "USER")[-1] == "1000:1000"
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert len(values(path, "HEALTHCHECK")) == 1
    assert f"arch-{path.stem}" in values(path, "LABEL")[0]
    assert not any(SECRET.search(value) for name, value in instructions(path) if name in ("ENV", "ARG"))


def test_the_wheels_folders_are_all_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    for name in ("bench", "export"):
        path = DOCKER / f"{name}.Dockerfile"
        copied = {shlex.split(value)[0] for value in values(path, "COPY")}
        assert {package.split("/")[0] for package in packages} <= copied
        (extra,) = re.findall(r"'\.\[(\w+)\]'", "".join(values(path, "RUN")))
        assert extra == name
        assert extra in project["project"]["optional-dependencies"]


def test_the_ports_are_those_of_arch_serve() -> None:
    arguments = inspect.signature(arch_bench.serve).parameters
    ports = {str(arguments[f"{name}_port"].default) for name in ("http", "grpc", "metrics")}
    triton = DOCKER / "triton.Dockerfile"
    assert set(values(triton, "EXPOSE")[0].split()) == ports
    http = arguments["http_port"].default
    assert f"http://127.0.0.1:{http}/v2/health/live" in values(triton, "HEALTHCHECK")[0]
    published = compose()["services"]["triton"]["ports"]
    assert {one.removeprefix("127.0.0.1:").partition(":")[0] for one in published if one.startswith("127.")} == ports
    # All that other machines reach is the proxy's port.
    assert [one for one in published if not one.startswith("127.")] == ["8443:8443"]
    assert "port_value: 8443" in (DOCKER / "envoy.yaml").read_text()
    assert f"port_value: {arguments['grpc_port'].default}" in (DOCKER / "envoy.yaml").read_text()
    (scraped,) = re.findall(r'targets: \["([^"]*)"\]', (DOCKER / "monitoring" / "prometheus.yml").read_text())
    assert scraped == f"triton:{arguments['metrics_port'].default}"


def test_the_commands_of_compose_exist() -> None:
    services = compose()["services"]
    bench = services["bench"]["command"]
    assert unknown(bench) == []
    assert (
        bench[bench.index("--server") + 1]
        == f"triton:{inspect.signature(arch_bench.serve).parameters['grpc_port'].default}"
    )
    (line,) = [line for line in services["export"]["command"][0].splitlines() if "arch export" in line]
    assert unknown(shlex.split(line)[2:]) == []


def test_compose_names_what_there_is() -> None:
    found = compose()
    services, volumes = found["services"], set(found["volumes"])
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services), name
        assert re.fullmatch(r"arch-\w+|[\w/]+:v?\d+\.\d+\.\d+", service["image"]), service["image"]
        if "build" in service:
            assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        mode = service.get("network_mode", "service:triton").removeprefix("service:")
        assert mode in services
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            # Those of secrets and of data are made by who uses them.
            if source.startswith("./") and "secrets" not in source:
                assert (DOCKER / source).is_file(), source
            elif "/" not in source:
                assert source in volumes, source
    assert not any(SECRET.search(name) for service in services.values() for name in service.get("environment", {}))


def test_the_bench_waits_for_the_server_and_the_server_for_the_export() -> None:
    services = compose()["services"]
    healthy = {"condition": "service_healthy", "required": False}
    assert services["bench"]["depends_on"] == {"triton": healthy, "triton-gpu": healthy}
    for name, profile in (("triton", "cpu"), ("triton-gpu", "gpu")):
        assert services[name]["profiles"] == [profile]
        assert services[name]["depends_on"] == {"export": {"condition": "service_completed_successfully"}}
    (device,) = services["triton-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert "deploy" not in services["triton"]


def test_the_provisioned_files_are_where_grafana_and_prometheus_look() -> None:
    services = compose()["services"]
    mounted = {
        target: DOCKER / source
        for name in ("grafana", "prometheus")
        for source, _, target in (one.removesuffix(":ro").partition(":") for one in services[name]["volumes"])
    }
    provider = mounted["/etc/grafana/provisioning/dashboards/arch.yaml"].read_text()
    (folder,) = re.findall(r"path: (\S+) ", provider)
    board: Any = json.loads(mounted[f"{folder}/arch.json"].read_text())
    (uid,) = re.findall(r"uid: (\w+)", mounted["/etc/grafana/provisioning/datasources/arch.yaml"].read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {uid}
    rules = mounted["/etc/prometheus/prometheus.yml"].read_text()
    assert "rule_files: [alerts.yml]" in rules
    assert "/etc/prometheus/alerts.yml" in mounted
