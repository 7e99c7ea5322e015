"""What a model is executed by, and which it is, told and untold."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
from arch_common.content import content_hash
from arch_common.execution import told_executions
from arch_harness.bench.bench import Bench
from arch_harness.results.run import Footprint
from arch_harness.triton.endpoint import Endpoint
from arch_harness.triton.execution import Execution, footprint_by, metrics_addresses, told_by, untold
from arch_harness.triton.server import Server
from arch_serve.server import LocalServer
from google.protobuf import text_format
from support.runs import small
from tritonclient.grpc import model_config_pb2, service_pb2

pytestmark = [pytest.mark.torch, pytest.mark.triton, pytest.mark.ray]

OURS = f"arch:{'a' * 32}:9002"
OTHER = f"arch:{'b' * 32}:9002"


def metric(**labels: str) -> str:
    told = {
        "model": "m",
        "version": "1",
        "server": OURS,
        "content_hash": "sha256:1",
        "served_hash": "sha256:2",
        "execution_provider": "CPUExecutionProvider",
        "precision": "fp32",
        "note": "",
    } | labels
    return "arch_execution_info{" + ",".join(f'{name}="{value}"' for name, value in told.items()) + "} 1\n"


def test_labels_are_unescaped() -> None:
    (told,) = told_executions("# HELP arch_execution_info\n" + metric(note=r"a \"b\" \\ c\nd") + "other{} 2\n")
    assert told["note"] == 'a "b" \\ c\nd'
    assert told["server"] == OURS


def test_only_the_server_that_is_meant_is_believed() -> None:
    metrics = metric(server=OTHER, precision="bf16") + metric(model="n") + metric(note="slow")
    assert told_by(metrics, OURS, "m", "sha256:1") == Execution("fp32 on CPUExecutionProvider (slow)", "sha256:2")
    assert told_by(metric(server=OTHER), OURS, "m", "sha256:1") is None
    assert told_by(metric(server=OTHER), "triton", "m", "sha256:1") is None
    assert told_by(metric(), OURS, "m", "sha256:9") is None
    assert told_by("", OURS, "m", "sha256:1") is None
    latest = metric(version="9") + metric(version="10", served_hash="sha256:3") + metric(version="8")
    assert told_by(latest, OURS, "m", "sha256:1") == Execution("fp32 on CPUExecutionProvider", "sha256:3")


def test_a_footprint_is_of_all_instances_and_of_the_server_that_is_meant() -> None:
    def figures(instance: str, memory: int, seconds: float, server: str = OURS) -> str:
        labels = f'model="m",version="1",instance="{instance}",server="{server}",content_hash="sha256:1"'
        values = {"peak_memory_bytes": memory, "disk_bytes": 3 * 2**20, "load_seconds": seconds}
        return "".join(f"arch_instance_{name}{{{labels}}} {value}\n" for name, value in values.items())

    metrics = figures("m_0_0", 2**20, 1.5) + figures("m_0_1", 2**21, 2.5) + figures("m_0_0", 2**30, 9.0, OTHER)
    assert footprint_by(metrics, OURS, "m", "sha256:1") == Footprint(
        model="m", memory_mib=3.0, disk_mib=3.0, load_seconds=2.5
    )
    assert footprint_by(metrics, "triton", "m", "sha256:1") is None
    assert footprint_by(metric(), OURS, "m", "sha256:1") is None


def test_an_earlier_arch_tells_less() -> None:
    """Neither a name of the server nor the hash of what it has loaded."""
    earlier = metric().replace(f'server="{OURS}",', "").replace('served_hash="sha256:2",', "")
    assert told_by(earlier, "triton", "m", "sha256:1") == Execution("fp32 on CPUExecutionProvider", "sha256:1")
    assert told_by(earlier, OURS, "m", "sha256:1") is None  # another server of that machine


def test_where_the_metrics_are() -> None:
    assert metrics_addresses("there:9001", None, OURS) == ["there:9002"]
    assert metrics_addresses("[::1]:8001", "[::1]:8002", OURS) == ["[::1]:9002", "[::1]:8002"]
    assert metrics_addresses("there:8001", "there:8002", "triton") == ["there:8002"]
    assert metrics_addresses("there:9001", None, "triton") == []


@pytest.mark.parametrize(
    ("runtime", "kind", "target", "precision", "expected"),
    [
        ("", "KIND_CPU", "auto", "fp32", "fp32 on CPU by NVIDIA's backend"),
        ("", "KIND_CPU", "cpu", "int8", "int8 on CPU by NVIDIA's backend"),
        ("", "KIND_GPU", "gpu", "bf16", "bf16 on GPU by NVIDIA's backend"),
        ("", "KIND_GPU", "tensorrt", "fp16", "fp16 on GPU by NVIDIA's backend"),
        (
            *("", "KIND_CPU", "cpu", "bf16"),
            "fp32 on CPU by NVIDIA's backend (bf16 for CPUs is made by OpenVINO, which only the backend of arch has)",
        ),
        (
            *("", "KIND_GPU", "auto", "fp32"),
            "fp32 on GPU by NVIDIA's backend (its products in TF32 on a GPU that has it: only --target gpu turns that "
            "off)",
        ),
        (
            *("model.py", "KIND_CPU", "cpu", "bf16"),
            "an unknown precision by the backend of arch at there:8001 (no metrics of this server were found)",
        ),
        (
            *("model.py", "KIND_CPU", "cpu", "int8"),
            "int8 by the backend of arch (no metrics of this server were found)",
        ),
    ],
)
def test_what_is_not_told(runtime: str, kind: str, target: str, precision: str, expected: str) -> None:
    text = f'runtime: "{runtime}" instance_group {{ kind: {kind} }}'
    text += f'parameters {{ key: "target" value {{ string_value: "{target}" }} }}'
    assert untold(text_format.Parse(text, model_config_pb2.ModelConfig()), precision, "there:8001") == expected


def test_bf16_that_runs_as_fp32_is_warned_of() -> None:
    run = small()
    (model, *_) = run.models
    config = text_format.Parse("instance_group { kind: KIND_CPU }", model_config_pb2.ModelConfig())
    for precision, expected in (
        ("fp32", []),
        (
            "bf16",
            [
                f"warning: {model.name}, exported in bf16, is served in fp32 on CPU by NVIDIA's backend (bf16 for CPUs "
                "is made by OpenVINO, which only the backend of arch has)"
            ],
        ),
    ):
        facts = model.model_copy(
            update={"precision": precision, "executed_by": untold(config, precision, "there:8001")}
        )
        assert Bench.warnings([facts], run.settings) == expected


def test_a_model_that_was_changed_in_place(tmp_path: Path, repository: Path) -> None:
    """Its facts, and so the key of its embeddings, are of what the server has loaded."""
    shutil.copytree(repository / "logmel", tmp_path / "logmel")
    exported = content_hash(tmp_path / "logmel" / "1")
    path = tmp_path / "logmel" / "1" / "model.onnx"
    graph = onnx.load(path)
    graph.doc_string = "optimised"
    onnx.save(graph, path)
    changed = content_hash(tmp_path / "logmel" / "1")
    note = "it is not what was exported: its files were changed since"
    with LocalServer(tmp_path, grpc_port=0, http_port=0, metrics_port=0) as server:
        assert [status.note for status in server.models] == [note]
        path.write_bytes(b"another one, which is not loaded")
        with Server(Endpoint(server.grpc_url)) as found:
            (facts,) = found.models([])
    assert facts.content_hash == changed != exported
    assert facts.executed_by == f"fp32 on CPUExecutionProvider ({note})"


@pytest.mark.parametrize(
    ("name", "endpoint", "expected"),
    [
        (OURS, Endpoint("there:7001"), "there:9002"),
        (OURS, Endpoint("there:8001"), "there:9002"),  # what it tells, not what is usual
        ("triton", Endpoint("there:8001"), "there:8002"),
        ("triton", Endpoint("there:7001"), None),
        ("triton", Endpoint("there:7001", metrics="here:5"), "here:5"),
    ],
)
def test_metrics_are_where_the_server_says(
    monkeypatch: pytest.MonkeyPatch, name: str, endpoint: Endpoint, expected: str | None
) -> None:
    monkeypatch.setattr(Server, "_call", lambda *_: service_pb2.ServerMetadataResponse(name=name))
    assert Server(endpoint).metrics_address() == expected


def test_metrics_of_a_server_that_does_not_answer_are_where_they_usually_are() -> None:
    assert Server(Endpoint("127.0.0.1:1", metrics="127.0.0.1:2")).metrics_address() == "127.0.0.1:2"


def test_without_metrics_the_backend_is_known_all_the_same(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arch_harness.triton.server.read_metrics", lambda *_: "")
    with Server(Endpoint(server.grpc_url)) as found:
        assert {one.executed_by for one in found.models([])} == {
            "fp32 by the backend of arch (no metrics of this server were found)"
        }
