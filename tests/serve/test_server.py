"""LocalServer and the onnxruntime backend, against the real tritonserver."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import tritonclient.grpc as triton
from arch_common.errors import ServeError, ServeUsageError
from arch_serve import server as server_module
from arch_serve.repository import select_models
from arch_serve.server import LocalServer
from support.serve_models import WIDTH, add_model
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = [pytest.mark.torch, pytest.mark.triton]

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
FloatArray = npt.NDArray[np.float32]
THREADS = 'parameters { key: "intra_op_thread_count" value: { string_value: "5" } }'


def local_server(repository: Path, models: Sequence[str] | None = None, **options: Any) -> LocalServer:
    """A server on free ports."""
    return LocalServer(repository, models, grpc_port=0, http_port=0, metrics_port=0, **options)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model_repository")
    add_model(folder, "plain")
    add_model(folder, "fragile", fail_on_negative=True)
    add_model(folder, "unbatched", max_batch_size=0, extra="")
    add_model(folder, "threads", count=2, extra=THREADS)
    add_model(folder, "gpu", kind="KIND_GPU")
    add_model(folder, "corrupt")
    (folder / "corrupt" / "1" / "model.onnx").write_bytes(b"not an ONNX file")
    add_model(folder, "incomplete")
    (folder / "incomplete" / "config.pbtxt").write_text('backend: "onnxruntime"\nmax_batch_size: 4\n')
    add_model(folder, "unreadable")
    (folder / "unreadable" / "config.pbtxt").write_text('backend: "onnx')
    add_model(folder, "versionless")
    (folder / "versionless" / "1").rename(folder / "versionless" / "draft")
    add_model(folder, ".export-in-progress")
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[LocalServer]:
    with local_server(repository) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Any:
    return triton.InferenceServerClient(server.grpc_url)


def infer_input(values: FloatArray) -> Any:
    tensor = triton.InferInput("x", values.shape, "FP32")
    tensor.set_data_from_numpy(values)
    return tensor


def rows(first: float, count: int) -> FloatArray:
    return (first + np.arange(count * WIDTH, dtype=np.float32)).reshape(count, WIDTH)


def infer_all(client: Any, model: str, batches: Sequence[FloatArray]) -> list[Any]:
    """Send all at once; each answer is a result or the client's exception, in order."""
    answers: list[Any] = [None] * len(batches)
    finished = threading.Semaphore(0)

    def keep(position: int) -> Callable[[Any, Any], None]:
        def callback(result: Any, error: Any) -> None:
            answers[position] = error if error is not None else result
            finished.release()

        return callback

    for position, values in enumerate(batches):
        client.async_infer(model, [infer_input(values)], keep(position))
    for _ in batches:
        assert finished.acquire(timeout=30)
    return answers


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def shared_memory(processes: Sequence[psutil.Process]) -> list[Path]:
    """What they have mapped of it; other servers on this machine have files of their own there."""
    mapped = {entry.path for process in processes for entry in process.memory_maps()}
    found = [Path(path) for path in mapped if path.startswith(f"{SHARED_MEMORY}/")]
    assert found, "the server and its stubs talk by shared memory"
    return found


def assert_gone(processes: Sequence[psutil.Process], seconds: float) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not alive


def server_process(server: LocalServer) -> psutil.Process:
    port = server.grpc_url.split(":")[1]
    (process,) = [child for child in descendants(os.getpid()) if f"--grpc-port={port}" in command(child)]
    return process


def stubs(server: LocalServer, model: str) -> list[psutil.Process]:
    children = server_process(server).children()
    return [child for child in children if any(f"/{model}/" in part for part in command(child))]


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.ZombieProcess:
        return []


def test_a_request_alone_is_answered(client: Any) -> None:
    result = client.infer("plain", [infer_input(rows(3, 2))])
    np.testing.assert_array_equal(result.as_numpy("double"), 2 * rows(3, 2))
    np.testing.assert_array_equal(result.as_numpy("sum"), rows(3, 2).sum(axis=1, keepdims=True))


def test_only_the_requested_output_is_sent(client: Any) -> None:
    result = client.infer("plain", [infer_input(rows(3, 2))], outputs=[triton.InferRequestedOutput("sum")])
    np.testing.assert_array_equal(result.as_numpy("sum"), rows(3, 2).sum(axis=1, keepdims=True))
    assert result.as_numpy("double") is None


def test_concurrent_requests_share_batches_and_keep_their_own_results(client: Any) -> None:
    batches = [rows(100 * number, 1 + number % 3) for number in range(32)]
    for values, answer in zip(batches, infer_all(client, "plain", batches), strict=True):
        np.testing.assert_array_equal(answer.as_numpy("double"), 2 * values)
        np.testing.assert_allclose(answer.as_numpy("sum"), values.sum(axis=1, keepdims=True), rtol=1e-6)
    (statistics,) = client.get_inference_statistics("plain", as_json=True)["model_stats"]
    assert max(int(batch["batch_size"]) for batch in statistics["batch_stats"]) > 3


def test_without_a_batch_dimension(client: Any) -> None:
    batches = [rows(number, 1 + number) for number in range(3)]
    for values, answer in zip(batches, infer_all(client, "unbatched", batches), strict=True):
        np.testing.assert_array_equal(answer.as_numpy("double"), 2 * values)


def test_a_batch_that_fails_is_an_error_for_each_request_and_the_model_lives_on(client: Any) -> None:
    for answer in infer_all(client, "fragile", [rows(-1000, 4)] * 8):
        assert isinstance(answer, triton.InferenceServerException)
        assert "Gather" in str(answer)
    result = client.infer("fragile", [infer_input(rows(1, 2))])
    np.testing.assert_array_equal(result.as_numpy("sum"), rows(1, 2).sum(axis=1, keepdims=True))


def test_models_that_cannot_be_served_say_why_and_leave_the_others_alone(server: LocalServer) -> None:
    reasons = {status.name: status.short_reason for status in server.models if not status.ready}
    assert {status.name for status in server.models if status.ready} == {"fragile", "plain", "threads", "unbatched"}
    assert set(reasons) == {"corrupt", "gpu", "incomplete", "unreadable", "versionless"}
    assert reasons["corrupt"].startswith("ONNX Runtime cannot load model.onnx")
    assert "GPU" in reasons["gpu"]
    assert reasons["incomplete"] == "config.pbtxt lists the inputs [], the ONNX graph has ['x']"
    assert "failed to read text proto" in reasons["unreadable"]
    assert "at least one version" in reasons["versionless"]


def test_instances_and_threads_are_those_of_the_configuration(server: LocalServer) -> None:
    instances = stubs(server, "threads")
    assert len(instances) == 2
    (single,) = stubs(server, "unbatched")
    # ONNX Runtime runs one of the intra-op threads as the caller's, so N of them start N - 1.
    default = max(1, len(os.sched_getaffinity(0)))
    assert [process.num_threads() - single.num_threads() for process in instances] == [5 - default] * 2


def test_the_server_runs_on_the_packages_of_this_environment(server: LocalServer) -> None:
    (stub,) = stubs(server, "plain")
    mapped = {entry.path for entry in stub.memory_maps()}
    packages = Path(np.__file__).resolve().parents[1]
    for name in ("numpy", "onnxruntime"):
        assert any(path.startswith(f"{packages}/{name}/") for path in mapped)


@pytest.mark.slow
def test_a_subset_of_models_and_a_clean_end(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    log = tmp_path / "logs" / "server.log"
    server = local_server(repository, ["plain"], log_file=log)
    before = set(descendants(os.getpid()))
    with server:
        assert [(status.name, status.version, status.ready) for status in server.models] == [("plain", "1", True)]
        started = set(descendants(os.getpid())) - before
        assert len(started) == 2
        mapped = shared_memory(list(started))
        assert list(temporary.glob("arch-serve-*"))
    assert_gone(list(started), 2)
    assert [path for path in mapped if path.exists()] == []
    assert list(temporary.glob("arch-serve-*")) == []
    assert "successfully loaded 'plain'" in log.read_text()
    server.stop()
    with server:  # and again
        assert server.models[0].ready


def test_busy_ports_are_named_with_their_options(repository: Path) -> None:
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        grpc, metrics = (sock.getsockname()[1] for sock in (one, other))
        with pytest.raises(ServeUsageError) as caught:
            LocalServer(repository, grpc_port=grpc, http_port=0, metrics_port=metrics).start()
    assert str(caught.value) == (
        f"in use: port {grpc}, {metrics}. Stop what listens there, or choose others with --grpc-port, --metrics-port "
        "(0 takes a free one)"
    )


def test_ports_must_differ(repository: Path) -> None:
    with pytest.raises(ServeUsageError, match="three different ports"):
        LocalServer(repository, grpc_port=9001, http_port=9001, metrics_port=0).start()


@pytest.mark.slow
def test_a_server_that_dies_makes_wait_raise(repository: Path) -> None:
    with local_server(repository, ["unbatched"]) as server:
        process = server_process(server)
        started = [process, *process.children(recursive=True)]
        mapped = shared_memory(started)
        process.kill()
        # And not that it found no GPU.
        with pytest.raises(ServeError, match=r"^tritonserver was killed by SIGKILL$"):
            server.wait()
    assert_gone(started, 5)
    assert [path for path in mapped if path.exists()] == []


def test_a_server_that_cannot_start_says_why(repository: Path) -> None:
    with pytest.raises(ServeError, match=r"cannot listen on 192\.0\.2\.1"):
        local_server(repository, ["plain"], host="192.0.2.1").start()


def test_an_empty_address_is_refused(repository: Path) -> None:
    with pytest.raises(ServeUsageError, match="the address to listen on is empty: name one, such as 127"):
        local_server(repository, ["plain"], host="").start()


@pytest.mark.parametrize("host", ["::1", " 127.0.0.1", "no.such.host.invalid", "a" * 70])
def test_what_is_no_address_is_refused(repository: Path, host: str) -> None:
    with pytest.raises(
        ServeUsageError, match=f"^cannot listen on {host}: .*; wants an IPv4 address, or a name of one$"
    ):
        local_server(repository, ["plain"], host=host).start()


def test_a_name_of_this_machine_is_an_address_to_listen_on(repository: Path) -> None:
    """Triton itself would have its HTTP listen on 255.255.255.255."""
    with local_server(repository, ["plain"], host="localhost", timeout_s=60) as server:
        assert server.http_url.startswith("127.0.0.1:")
        with triton.InferenceServerClient(server.grpc_url) as client:
            assert client.is_model_ready("plain")


@pytest.mark.parametrize("target", ["gone", "dead"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, target: str) -> None:
    """Triton would load the models, and answer no request for their list."""
    add_model(tmp_path, "plain")
    (tmp_path / "dead").symlink_to(target)
    with pytest.raises(ServeUsageError, match=f"{tmp_path} holds links that lead nowhere: remove or mend dead$"):
        local_server(tmp_path).start()


def test_a_server_that_cannot_list_its_models_says_so_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_model(tmp_path, "plain")
    select = select_models

    def select_and_lose(repository: Path, models: Sequence[str] | None) -> list[str]:
        """A link loses its target after the repository was looked at."""
        names = select(repository, models)
        (repository / "dead").symlink_to("gone")
        return names

    monkeypatch.setattr(server_module, "select_models", select_and_lose)
    with pytest.raises(
        ServeError, match=f"Triton cannot list the models of {tmp_path}: .*failed to stat.*{tmp_path}/dead"
    ):
        local_server(tmp_path).start()


def test_loading_has_a_time_limit(repository: Path) -> None:
    before = set(descendants(os.getpid()))
    with pytest.raises(ServeError, match=r"not loaded within 0\.2 s"):
        local_server(repository, ["plain"], timeout_s=0.2).start()
    assert_gone(list(set(descendants(os.getpid())) - before), 5)


@pytest.mark.slow
def test_no_server_outlives_a_killed_parent(repository: Path) -> None:
    code = textwrap.dedent(f"""
        from pathlib import Path
        from arch_serve.server import LocalServer
        with LocalServer(Path({str(repository)!r}), ["plain"], grpc_port=0, http_port=0, metrics_port=0) as server:
            print("ready", flush=True)
            server.wait()
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        started = descendants(parent.pid)
        assert len(started) == 2
        mapped = shared_memory(started)
        parent.send_signal(signal.SIGKILL)
    assert_gone(started, 15)
    until(lambda: not [path for path in mapped if path.exists()], deadline_s=2)
