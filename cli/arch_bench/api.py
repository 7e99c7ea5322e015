"""What arch does, as functions; a command reads its options, calls one of these, and draws what comes back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from arch_common.errors import UsageError
from arch_common.files import check_folder
from arch_common.log import logged

from arch_bench import cache as store
from arch_bench import data
from arch_bench.extras import needs
from arch_bench.loaded import LoadedRun, load
from arch_bench.servers.reaching import endpoints, listed

if TYPE_CHECKING:
    from arch_export.checkpoint.aliases import Alias
    from arch_export.pipeline import Exported
    from arch_harness.results.measurement import Transport
    from arch_harness.results.scores import ProbeName
    from arch_harness.triton.endpoint import Endpoint
    from arch_serve.server import LocalServer
    from rich.console import Console

    from arch_bench.servers.checking import Checked

__all__ = ["aliases", "bench", "check", "default_output", "endpoints", "export", "load", "probe", "serve"]

REPOSITORY = Path("model_repository")
_WORKERS_PER_CORE = 16


def export(
    checkpoint: str | Path,
    repository: str | Path = REPOSITORY,
    *,
    name: str | None = None,
    layers: str | int = "none",
    lengths: str = "padded",
    precision: str = "fp32",
    target: str = "auto",
    unnormalised: bool = False,
    force: bool = False,
    max_queue_size: int | None = None,
    max_batch: int | None = None,
    instances: int | None = None,
    queue_delay: str | None = None,
    threads: int | None = None,
    conv_search: str | None = None,
    on_step: Callable[[str], None] = lambda _: None,
    on_warning: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Turn a checkpoint into a verified ONNX encoder in a Triton model repository; needs the extra `export`.

    Args:
        checkpoint: an alias such as `hubert-large`, a hub id, a checkpoint folder, or the built-in `logmel`.
        repository: made if it is not there.
        name: the model's; by default the checkpoint's, and the precision where that is not fp32.
        layers: `all` adds every layer's mean hidden state as a second output; a number cuts the encoder after it.
        lengths: `padded` lets padding count, as the ARCH protocol has it; with `exact` it changes nothing.
        precision: fp32, fp16 or tf32 (GPU), int8 (CPU), or bf16 (CPU, and GPU with that target).
        target: cpu, gpu or tensorrt: what the server's configuration is written for; auto: any machine.
        unnormalised: take the waveform as it is, though the checkpoint asks for its normalisation.
        max_queue_size: requests that may wait in the server; by default there is no bound, see `arch export --help`.
        max_batch: clips of a batch, at most; by default what the target asks for, as of the three that follow.
        instances: that execute side by side, on each GPU or on the CPU.
        queue_delay: that a request may wait for others to share its batch: `2ms`, `500us` or `0`.
        threads: of one operator, in each instance.
        conv_search: on a GPU, how cuDNN's algorithms for convolutions are chosen: heuristic, exhaustive or default.
        force: install also what misses the limits of its precision, with a mark.
        on_step: told what is being done.
        on_warning: told what should be known although the export goes on.

    Returns:
        What was installed, and what was measured against the original.

    Raises:
        ExportUsageError: if there is no such checkpoint, or it is not supported in this way.
        ExportError: if the export fails, or its embeddings differ too much from the original's.
    """
    form = (name, str(layers), lengths)
    serving: dict[str, Any] = {"precision": precision, "target": target, "max_queue_size": max_queue_size}
    serving |= {"unnormalised": unnormalised, "max_batch": max_batch, "instances": instances}
    serving |= {"queue_delay": queue_delay, "threads": threads, "conv_search": conv_search}
    with needs("export"):
        from arch_export.request import settle_request

        settle_request(str(checkpoint), *form, **serving)  # before the seconds that torch takes to import
        from arch_export.pipeline import export as run
    return run(str(checkpoint), Path(repository), *form, on_step, on_warning, force=force, **serving)


def aliases() -> dict[str, Alias]:
    """The checkpoints that have a short name; needs the extra `export`."""
    with needs("export"):
        from arch_export.checkpoint.aliases import ALIASES
    return dict(ALIASES)


def check(exported: Exported) -> Checked:
    """Load an exported model into a Triton on this machine, ask for each output, and compare; needs every extra.

    Raises:
        ArchError: if it does not load, does not answer, or answers something else than the graph does here.
    """
    from arch_bench.servers.checking import check as run

    return run(exported)


def serve(
    repository: str | Path = REPOSITORY,
    models: str | Sequence[str] | None = None,
    *,
    host: str = "127.0.0.1",
    grpc_port: int = 8001,
    http_port: int = 8000,
    metrics_port: int = 8002,
    log_file: str | Path | None = None,
    log_format: Literal["text", "json"] = "text",
    trace_url: str | None = None,
    trace_rate: int = 1000,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    tls_client_ca: str | Path | None = None,
    allow: str | Sequence[str] = (),
) -> LocalServer:
    """NVIDIA Triton over a model repository, as a context manager that runs it; needs the extra `serve`.

        with arch_bench.serve(grpc_port=0) as server:
            print(server.grpc_url)

    Args:
        repository: what `export` wrote to.
        models: only these; by default all.
        host: address to listen on.
        grpc_port: 0 takes a free one; so do the other two.
        http_port: Triton's HTTP endpoint.
        metrics_port: Prometheus metrics.
        log_file: keeps Triton's log.
        log_format: `json` makes each line of that log a JSON object; without a file they go to standard error.
        trace_url: of an OpenTelemetry collector, which gets spans of requests by OTLP over HTTP.
        trace_rate: of so many requests, one is traced.
        tls_cert: PEM of the server's certificate: gRPC is encrypted, and HTTP stays on 127.0.0.1.
        tls_key: PEM of its private key.
        tls_client_ca: PEM of the authorities that clients' certificates must be from (mutual TLS).
        allow: what every client may change: `shared-memory`, `model-repository`, `trace`, `logging`. By default
            nothing, but `shared-memory` over gRPC where only this machine reaches it.

    Raises:
        ServeUsageError: if TLS, `allow` or a trace cannot be right; on entry, if there is no such repository or port.
        ServeError: on entry, if the server does not start.
    """
    with needs("serve"):
        from arch_serve.access import Access, tls_of
        from arch_serve.server import LocalServer
        from arch_serve.tracing import tracing_of
    files = [None if one is None else Path(one) for one in (tls_cert, tls_key, tls_client_ca)]
    return LocalServer(
        Path(repository),
        None if models is None else listed(models),
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        log_file=Path(log_file) if log_file else None,
        log_format=log_format,
        access=Access(tls_of(*files), listed(allow)),
        tracing=tracing_of(trace_url, trace_rate),
    )


def default_output() -> Path:
    """A new folder for a report, named after the time."""
    return Path("reports") / datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")


@logged
def bench(
    datasets: str | Path | Sequence[str | Path],
    *,
    servers: str | Endpoint | Sequence[str | Endpoint] = (),
    models: str | Sequence[str] = (),
    repository: str | Path = REPOSITORY,
    output: str | Path | None = None,
    data_root: str | Path | None = None,
    splits: Literal["arch", "strict"] = "arch",
    probes: ProbeName | Sequence[ProbeName] = ("linear",),
    seeds: int = 3,
    seed: int = 0,
    layers: bool = False,
    concurrency: int | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    transport: Transport = "grpc",
    cache: str | Path | None = None,
    recompute: bool = False,
    repeat: int = 1,
    rate: float | None = None,
    price: float | str | None = None,
    ablate: str | Sequence[str] = (),
    log_file: str | Path | None = None,  # noqa: ARG001 - `logged` takes it
    command: str = "arch_bench.bench(…)",
    config: str = "",
    console: Console | None = None,
) -> LoadedRun:
    """Stream datasets through a served encoder, probe the embeddings and write one report; needs the extra `bench`.

    Args:
        datasets: ids, `ID=PATH`, `.yaml` files or folders of one's own data.
        servers: `HOST:PORT` of Triton's gRPC, or what `endpoints` gives; they share the load. None: one is started for
            the run, which needs the extra `serve`.
        models: on the server; by default all that `export` made.
        repository: what a server started here serves.
        output: folder for the report; one that was interrupted is completed. By default a new one in `reports`.
        data_root: where an id without a path is looked for; by default `$ARCH_DATA` or `data`.
        splits: `strict` takes the speaker- or source-disjoint split where ARCH's is not.
        probes: the first one is the headline.
        seeds: probes trained per fold, with seeds that follow one another.
        seed: the first.
        layers: probe every layer too, of models exported with all of them.
        concurrency: single-clip requests in flight, over all servers; None finds it.
        workers: Ray processes that read, decode and send; by default half the cores.
        ray_address: of a Ray cluster of which this machine is a node; by default, or with `local`, Ray is started here.
        transport: `shared-memory` gives servers on this machine the audio through it.
        cache: the embedding store; by default `$ARCH_CACHE` or a folder in the user's cache.
        recompute: embed again what is stored, to measure speed.
        repeat: how often the speed is measured; from two on the report gives intervals.
        rate: in clips/s, at which the latencies of all models are measured too; by default 70 % of what the slowest
            reaches, where there are several.
        price: of an hour of all servers together, as 2.49 or `2.49/h`: the report then has prices.
        ablate: aspects of the preprocessing, or settings of them, under which the same clips are scored too:
            `padding`, `normalisation`, `resampler`, `loudness`, `length`, or `loudness=peak`.
        log_file: what happens is appended to it, a JSON object a line.
        command: what the report names as its origin.
        config: the same as a file for `arch bench -f`, which `results.json` keeps.
        console: draws progress and notes; None stays silent.

    Returns:
        The run, with the pairs that could not be scored in `problems`.

    Raises:
        UsageError: if something asked for cannot be right; before anything is started where possible.
        ArchError: if the servers are lost or the disk is full; what was done is kept, and the same call goes on.
    """
    if splits not in ("arch", "strict"):
        raise UsageError(f"unknown splits {splits!r}: arch or strict")
    if not listed(datasets):
        raise UsageError("no dataset is named")
    output = Path(output) if output else default_output()
    cores = len(os.sched_getaffinity(0))
    workers = max(1, cores // 2) if workers is None else workers
    with needs("bench"):
        from arch_harness.bench.bench import Bench
        from arch_harness.bench.events import tell_end, tell_start
        from arch_harness.bench.progress import Display
        from arch_harness.bench.resuming.output import held_output
        from arch_harness.embeddings.store import EmbeddingStore
        from arch_harness.probes import EPOCHS
        from arch_harness.results.checks.ablations import settings_of
        from arch_harness.results.price import parse_price
        from arch_harness.results.run import check_settings
        from arch_harness.streaming.pool import WorkerPool
        from arch_harness.triton.server import Server, common_models, models_left_out
    settings = check_settings(
        seed=seed,
        seeds=seeds,
        probes=listed(probes),
        epochs=EPOCHS,
        concurrency=concurrency,
        workers=min(workers, workers if concurrency is None else concurrency),
        layers=layers,
        transport=transport,
        repeat=repeat,
        rate=rate,
        price=None if price is None else parse_price(str(price)),
        ablate=settings_of(listed(ablate)),
    )
    ray_address = checked_ray(ray_address, settings.workers)
    check_folder(output, "--output")
    store.check(cache)
    opened = data.open_all(listed(datasets), data_root, splits, console)
    display = Display(console)
    if note := store.makeshift_note(cache):
        display.note(note)
    with ExitStack() as stack:
        stack.enter_context(held_output(output))
        reached = stack.enter_context(reached_servers(listed(servers), Path(repository), listed(models), display.note))
        running = [stack.enter_context(Server(one)) for one in reached]
        facts = common_models(running, listed(models))
        left_out = models_left_out(running, facts) if len(running) > 1 and not listed(models) else []
        for line in (*left_out, *Bench.warnings(facts, settings)):
            display.note(line)
        pool = WorkerPool(reached, settings.workers, settings.concurrency, ray_address, transport, display.note)
        embeddings = EmbeddingStore(store.root(cache), display.note)
        run = Bench(running, facts, opened, settings, output, command, pool, embeddings, recompute, config)
        tell_start(run.run, output)
        run.execute(display)
    tell_end(run.run, run.problems, output)
    return LoadedRun(output, run.run, store.root(cache), tuple(run.problems))


def checked_ray(address: str | None, workers: int) -> str | None:
    """The address of a Ray cluster; None where Ray is to be started here, which `local` asks for too, as Ray has it.

    Raises:
        UsageError: if there are to be more workers here than this machine can do with.
    """
    address = None if address == "local" else address
    cores = len(os.sched_getaffinity(0))
    if address is None and workers > _WORKERS_PER_CORE * cores:
        most = _WORKERS_PER_CORE * cores
        raise UsageError(f"workers cannot be {workers}: on the {cores} cores of this machine at most {most}")
    return address


@contextmanager
def reached_servers(
    given: Sequence[str | Endpoint], repository: Path, models: Sequence[str], note: Callable[[str], None]
) -> Iterator[list[Endpoint]]:
    """The given servers, each once, or one that runs as long as the block does."""
    with needs("bench"):
        from arch_harness.triton.endpoint import Endpoint
    if given:
        named = [Endpoint(one) if isinstance(one, str) else one for one in given]
        yield list({one.address: one for one in named}.values())
        return
    note("starting Triton and loading the models")
    with serve(repository, models or None, grpc_port=0, http_port=0, metrics_port=0) as server:
        for status in server.models:
            if not status.ready:
                note(f"warning: {status.name} is not served: {status.short_reason}")
        try:
            yield [Endpoint(server.grpc_url, metrics=server.metrics_url, started_by_arch=True)]
        except BaseException:
            server.kill()  # nobody waits for an answer any more
            raise


def probe(
    folder: str | Path,
    *,
    probes: ProbeName | Sequence[ProbeName] = ("linear",),
    seeds: int = 3,
    seed: int = 0,
    cache: str | Path | None = None,
    command: str = "arch_bench.probe(…)",
    console: Console | None = None,
) -> LoadedRun:
    """Score the stored embeddings of a run again, without a server, and write its report anew; needs `bench`.

    Args:
        folder: that `bench` wrote.
        probes: the first one is the headline.
        seeds: probes trained per fold.
        seed: the first.
        cache: the embedding store that the run used.
        command: what the report names as its origin.
        console: draws progress and notes; None stays silent.

    Raises:
        UsageError: if the folder holds no run, or the data or embeddings are not those of the run.
    """
    with needs("bench"):
        from arch_harness.bench.probe_again import probe_again
        from arch_harness.bench.progress import Display
        from arch_harness.embeddings.store import EmbeddingStore
    display, root = Display(console), store.root(cache)
    if note := store.makeshift_note(cache):
        display.note(note)
    run, problems = probe_again(
        Path(folder),
        EmbeddingStore(root, display.note),
        listed(probes),
        seeds,
        seed,
        display,
        command,
    )
    return LoadedRun(Path(folder), run, root, tuple(problems))
