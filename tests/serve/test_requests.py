"""What a client's mistakes come to: its own request alone fails, with a line that says why, and Triton counts it."""

from __future__ import annotations

import re
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from arch_common import session
from arch_export.pipeline import export
from arch_serve.server import LocalServer
from support.serve_models import WIDTH, add_model
from support.waiting import until

pytestmark = [pytest.mark.torch, pytest.mark.triton]

MODELS = ["logmel", "tiny-hubert"]
# Long enough for requests that are sent together to share a batch.
DELAY_US = 300_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("patient")
    for model in MODELS:
        shutil.copytree(repository / model, folder / model)
        config = folder / model / "config.pbtxt"
        config.write_text(
            re.sub(
                r"max_queue_delay_microseconds: \d+", f"max_queue_delay_microseconds: {DELAY_US}", config.read_text()
            )
        )
    add_model(folder, "fragile", fail_on_negative=True)
    shutil.copytree(repository / "logmel", folder / "declared")
    config = folder / "declared" / "config.pbtxt"
    text = config.read_text().replace('name: "logmel"', 'name: "declared"')
    config.write_text(text.replace('string_value: "400"', 'string_value: "800"'))
    with LocalServer(folder, grpc_port=0, http_port=0, metrics_port=0) as server:
        assert [status.state for status in server.models] == ["READY"] * 4
        yield server


@pytest.fixture(scope="module")
def client(served: LocalServer) -> Any:
    return triton.InferenceServerClient(served.grpc_url)


def clip(samples: int, num_samples: int) -> list[Any]:
    waveform = np.random.default_rng(7).standard_normal((1, samples)).astype(np.float32) * 0.1
    inputs = [triton.InferInput("waveform", [1, samples], "FP32"), triton.InferInput("num_samples", [1, 1], "INT64")]
    inputs[0].set_data_from_numpy(waveform)
    inputs[1].set_data_from_numpy(np.array([[num_samples]]))
    return inputs


def ask_together(client: Any, model: str, requests: list[list[Any]]) -> list[Any]:
    """Each answer is an embedding or the exception, in order."""
    answers: list[Any] = [None] * len(requests)
    finished = threading.Semaphore(0)

    def keep(position: int) -> Callable[[Any, Any], None]:
        def callback(result: Any, error: Any) -> None:
            answers[position] = error if error is not None else result.as_numpy("embedding")
            finished.release()

        return callback

    for position, inputs in enumerate(requests):
        client.async_infer(model, inputs, keep(position))
    for _ in requests:
        assert finished.acquire(timeout=30)
    return answers


def counts(client: Any, served: LocalServer, model: str) -> tuple[int, int, int, int]:
    """Requests that succeeded and failed, by Triton's statistics; that failed, by its metric and by ours."""
    (statistics,) = client.get_inference_statistics(model).model_stats
    with urllib.request.urlopen(f"http://{served.metrics_url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    theirs = re.findall(rf'^nv_inference_request_failure{{model="{model}",.*}} (\d+)', text, re.MULTILINE)
    (ours,) = re.findall(rf'^arch_failed_requests_total{{model="{model}",version="1"}} (\d+)', text, re.MULTILINE)
    stats = statistics.inference_stats
    return stats.success.count, stats.fail.count, sum(map(int, theirs)), int(ours)


def assert_added(
    client: Any, served: LocalServer, model: str, before: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    """Triton counts a request a moment after it has answered it."""
    until(
        lambda: tuple(new - old for old, new in zip(before, counts(client, served, model), strict=True)) == expected,
        deadline_s=5,
    )


def test_a_clip_that_is_shorter_than_the_model_says_though_its_graph_takes_it(client: Any) -> None:
    """As graphs for GPUs do, which pad each clip: what they give then means nothing."""
    assert client.infer("declared", clip(800, 800)).as_numpy("embedding").shape[0] == 1
    with pytest.raises(triton.InferenceServerException, match="waveform must have at least 800 samples, not 799"):
        client.infer("declared", clip(799, 799))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("samples", [0, 1, 399])
def test_a_clip_that_is_too_short(client: Any, served: LocalServer, model: str, samples: int) -> None:
    before = counts(client, served, model)
    assert client.infer(model, clip(400, 400)).as_numpy("embedding").shape[0] == 1
    answers = ask_together(client, model, [clip(samples, samples)] * 3)
    assert [str(answer) for answer in answers] == [
        f"[StatusCode.INVALID_ARGUMENT] waveform must have at least 400 samples, not {samples}"
    ] * 3
    assert_added(client, served, model, before, (1, 3, 3, 3))


@pytest.mark.parametrize("model", MODELS)
def test_a_wrong_number_of_samples_fails_alone_in_its_batch(client: Any, served: LocalServer, model: str) -> None:
    before = counts(client, served, model)
    executions = client.get_inference_statistics(model).model_stats[0].execution_count
    alone = client.infer(model, clip(8000, 8000)).as_numpy("embedding")
    wrong = {1: 0, 3: -1, 4: 8001}
    answers = ask_together(client, model, [clip(8000, wrong.get(position, 8000)) for position in range(6)])
    for position, answer in enumerate(answers):
        if position in wrong:
            assert str(answer) == (
                "[StatusCode.INVALID_ARGUMENT] num_samples must be from 1 to the 8000 samples of waveform, not "
                f"{wrong[position]}"
            )
        else:
            np.testing.assert_allclose(answer, alone, rtol=1e-4, atol=1e-4)
    # Triton's Python backend has one flag for all requests of an execution: only our counter knows the three.
    assert_added(client, served, model, before, (7, 0, 0, 3))
    assert client.get_inference_statistics(model).model_stats[0].execution_count == executions + 2


@pytest.mark.skipif(bool(session.bf16_obstacle() or session.missing_for_bf16()), reason="bf16 cannot run here")
@pytest.mark.usefixtures("traced_once")
def test_a_clip_that_fails_does_not_spoil_the_next_ones_of_openvino(tmp_path: Path, checkpoint: Path) -> None:
    """It then took the shapes of the good clips before for prepared, and failed at all that followed."""
    export(str(checkpoint), tmp_path, precision="bf16")
    with (
        LocalServer(tmp_path, grpc_port=0, http_port=0, metrics_port=0) as server,
        triton.InferenceServerClient(server.grpc_url) as client,
    ):
        for samples in (400, 8000, 16000):
            before = client.infer("tiny-hubert-bf16", clip(samples, samples)).as_numpy("embedding")
            with pytest.raises(
                triton.InferenceServerException, match="waveform must have at least 400 samples, not 39"
            ):
                client.infer("tiny-hubert-bf16", clip(39, 39))
            after = client.infer("tiny-hubert-bf16", clip(samples, samples)).as_numpy("embedding")
            np.testing.assert_array_equal(after, before)


def test_one_clip_of_a_batch_in_one_request(client: Any) -> None:
    inputs = [triton.InferInput("waveform", [2, 800], "FP32"), triton.InferInput("num_samples", [2, 1], "INT64")]
    inputs[0].set_data_from_numpy(np.zeros((2, 800), np.float32))
    inputs[1].set_data_from_numpy(np.array([[800], [801]]))
    with pytest.raises(triton.InferenceServerException, match=r"num_samples must be from 1 to the 800 samples .* 801"):
        client.infer("logmel", inputs)


def test_what_the_graph_fails_at_is_counted_too(client: Any, served: LocalServer) -> None:
    before = counts(client, served, "fragile")
    values = triton.InferInput("x", [2, WIDTH], "FP32")
    for number in (-1, 1):
        values.set_data_from_numpy(np.full((2, WIDTH), number, np.float32))
        if number < 0:
            with pytest.raises(triton.InferenceServerException, match=r"Gather node '.*' failed: "):
                client.infer("fragile", [values])
        else:
            assert client.infer("fragile", [values]).as_numpy("sum").tolist() == [[WIDTH]] * 2
    assert_added(client, served, "fragile", before, (1, 1, 1, 1))
