"""A load test, as one object that can be shown and that knows where its report is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import MissingExtraError, UsageError
from arch_common.files import check_folder
from arch_common.temporary import temporary_folder

from arch_bench import api, data
from arch_bench.extras import needs
from arch_bench.servers.reaching import listed

if TYPE_CHECKING:
    from arch_harness.load.asked import LoadRequest, Scenario
    from arch_harness.load.measure import LoadTest
    from arch_harness.load.report import Ceiling, LoadReport
    from arch_harness.results.measurement import Transport
    from arch_harness.results.run import ModelFacts
    from arch_harness.triton.endpoint import Endpoint
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True)
class LoadTested:
    """What was measured.

    Attributes:
        folder: of `load.html`, `load.json` and LoadGen's logs.
        report: all that `load.json` holds.
    """

    folder: Path
    report: LoadReport = field(repr=False)

    @property
    def page(self) -> Path:
        """The page to read."""
        return self.folder / "load.html"

    @property
    def invalid(self) -> list[str]:
        """The models none of whose measured runs is VALID."""
        return [one.model.name for one in self.report.models if not any(run.valid for run in one.runs)]

    @property
    def failure(self) -> str:
        """Why models have no valid figure, in one line; empty where each has a VALID run."""
        refused = [one.model.name for one in self.report.models if not one.runs and one.refused]
        broken = [name for name in self.invalid if name not in refused]
        parts = [f"no run of {', '.join(broken)} is VALID: {self.page} names the broken rules"] if broken else []
        if refused:
            parts.append(f"no rate of {', '.join(refused)} was measured: all are above what this client may send")
        return "; ".join(parts)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For a terminal."""
        from arch_harness.load.formats import TerminalLoad

        yield TerminalLoad(self.report)


def read_load_test(folder: str | Path) -> LoadTested:
    """Read a load test that `load_test` wrote; needs the extra `bench`.

    Args:
        folder: of its report, or its `load.json`.

    Raises:
        ArchError: if there is none that can be read, or it is of another version of the schema.
    """
    with needs("bench"):
        from arch_harness.load.report import read_load
    folder = Path(folder)
    folder = folder.parent if folder.name == "load.json" else folder
    return LoadTested(folder, read_load(folder / "load.json"))


def request_of(
    *,
    slo: str | None = None,
    rate: str | float | None = None,
    scenario: Scenario = "server",
    min_duration: float | None = None,
    min_queries: int | None = None,
    full: bool = False,
    samples_per_query: int | None = None,
    clips: int = 256,
    repeats: int | None = None,
    seed: int = 0,
    transport: Transport = "grpc",
    hop: float | None = None,
    workers: int = 1,
) -> LoadRequest:
    """What is asked of a load test, with the defaults of `load_test`; nothing is started.

    Raises:
        UsageError: if it cannot be, has no use, or LoadGen is not installed.
    """
    if full and min_duration is not None:
        raise UsageError("--full and --min-duration: choose one")
    with needs("load"):
        import mlperf_loadgen  # noqa: F401 - the process that sends imports it, where nobody sees that it is missing
        from arch_harness.load import asked as asking
    promise = None if slo is None else asking.parse_slo(slo)
    return asking.LoadRequest(
        scenario=scenario,
        slo=promise,
        rates=() if rate is None else tuple(asking.parse_rates(str(rate))),
        min_duration_s=asking.FULL_S if full else asking.DEFAULT_DURATION_S if min_duration is None else min_duration,
        min_queries=asking.default_queries(scenario, promise) if min_queries is None else min_queries,
        samples_per_query=samples_per_query,
        clips=clips,
        repeats=repeats,
        seed=seed,
        transport=transport,
        hop_s=hop,
        workers=workers,
    )


def check_local(servers: Sequence[Endpoint]) -> None:
    """Look whether servers can read shared memory of this machine.

    Raises:
        UsageError: if one is on another.
    """
    if away := [one.address for one in servers if not one.loopback]:
        raise UsageError(f"--transport shared-memory is for servers on this machine, and {away[0]} is not: use grpc")


def load_test(
    dataset: str | Path,
    *,
    servers: str | Endpoint | Sequence[str | Endpoint] = (),
    models: str | Sequence[str] = (),
    repository: str | Path = api.REPOSITORY,
    slo: str | None = None,
    rate: str | float | None = None,
    scenario: Scenario = "server",
    min_duration: float | None = None,
    min_queries: int | None = None,
    full: bool = False,
    samples_per_query: int | None = None,
    clips: int = 256,
    repeats: int | None = None,
    seed: int = 0,
    transport: Transport = "grpc",
    hop: float | None = None,
    workers: int = 1,
    ray_address: str | None = None,
    output: str | Path | None = None,
    data_root: str | Path | None = None,
    command: str = "arch_bench.load_test(…)",
    console: Console | None = None,
) -> LoadTested:
    """How many clips a second servers answer in time, measured with MLPerf LoadGen; needs the extra `load`.

    Args:
        dataset: whose clips are sent, each as long as it is.
        servers: `HOST:PORT` of Triton's gRPC, or what `endpoints` gives. None: one is started, which needs `serve`.
        models: on the server; by default all that `export` made.
        repository: what a server started here serves.
        slo: the promise, such as `p99=200ms`; the scenario server needs one, and offline has none.
        rate: clips/s of the curve, `5:100:8`; without it the highest that keeps the promise is searched.
        scenario: of LoadGen: server, offline, single-stream or multi-stream.
        min_duration: seconds of a run, at least; by default 10.
        min_queries: of a run, at least; by default what LoadGen's early stopping can pass, 459 at p99.
        full: runs of 600 s, as MLPerf's rules want them, instead of `min_duration`.
        samples_per_query: of multi-stream; by default 8.
        clips: of the dataset, drawn at random, that are sent again and again.
        repeats: rounds of three runs around the rate that the search has found; by default 3.
        seed: of arrivals and clips.
        transport: `shared-memory` has servers on this machine read the audio there.
        hop: seconds between two clips of a stream, for the answer in words, in the scenario server.
        workers: processes that send together, each with a LoadGen of its own and an equal share of the rate.
        ray_address: of a Ray cluster whose nodes several workers are; by default, or with `local`, they are here. One
            alone always is.
        output: folder for the report; by default a new one in `reports`.
        data_root: where an id without a path is looked for.
        command: what the report names as its origin.
        console: draws progress and notes; None stays silent.

    Raises:
        UsageError: if something asked for cannot be right, or another process writes to the folder.
        ArchError: if a server is lost, or the report cannot be written; what was measured before is in the folder.
    """
    with needs("load"):
        from arch_harness.bench.resuming.output import held_output
        from arch_harness.load.measure import LoadTest
        from arch_harness.load.reporting import LoadReporter
        from arch_harness.load.sending.client import decoded
        from arch_harness.triton.server import Server, common_models
    asked = request_of(
        slo=slo,
        rate=rate,
        scenario=scenario,
        min_duration=min_duration,
        min_queries=min_queries,
        full=full,
        samples_per_query=samples_per_query,
        clips=clips,
        repeats=repeats,
        seed=seed,
        transport=transport,
        hop=hop,
        workers=workers,
    )
    ray_address = api.checked_ray(ray_address, asked.workers)
    output = Path(output) if output else api.default_output()
    check_folder(output, "--output")
    opened = data.open_dataset(str(dataset), data_root)

    def note(text: str) -> None:
        if console is not None:
            console.print(text, highlight=False, markup=False, soft_wrap=True)

    reporter = None
    try:
        with ExitStack() as stack:
            stack.enter_context(held_output(output))
            given, named = listed(servers), listed(models)
            reached = stack.enter_context(api.reached_servers(given, Path(repository), named, note))
            if asked.transport == "shared-memory":
                check_local(reached)
            running = [stack.enter_context(Server(one)) for one in reached]
            facts = common_models(running, named)
            rates = {one.sample_rate for one in facts}
            fleet = None
            if asked.workers > 1:
                with needs("bench"):
                    from arch_harness.load.sending.fleet import Fleet
                fleet = stack.enter_context(Fleet(asked.workers, ray_address, reached))
            names = [one.name for one in facts]
            reporter = LoadReporter(asked, opened, running, names, command, output, note, fleet)
            for sample_rate in sorted(rates):
                with decoded(opened, sample_rate, asked.clips, asked.seed, note) as ready:
                    test = LoadTest(asked, ready, output, note, fleet)
                    group = [one for one in facts if one.sample_rate == sample_rate]
                    # The longest answers take the client longest.
                    ceiling = ceiling_of(test, max(group, key=lambda one: one.embedding_size), note)
                    for one in group:
                        test.model(one, reached, running, ceiling, reporter.keep)
    except BaseException:
        if reporter is not None and reporter.written:
            note(f"the report of what was measured until then: {output / 'load.html'}")
        raise
    return LoadTested(output, reporter.report)


def ceiling_of(test: LoadTest, facts: ModelFacts, note: Callable[[str], None]) -> Ceiling:
    """What this client can send to a model that does nothing, in a Triton of its own on each machine that sends."""
    from arch_harness.load.measure import ALLOWED, NULL, job_of
    from arch_harness.load.report import Ceiling

    try:
        where = "measured against a model that answers at once, in a Triton of its own on the machine that sends"
        return test.ceiling(partial(_null_server, facts.embedding_size), job_of(facts, NULL), where)
    except MissingExtraError as error:
        note(f"warning: how much this client can send is not known, so it may be the limit: {error}")
        return Ceiling(clips_per_s=None, where=f"not measured: {error}", allowed=ALLOWED)


@contextmanager
def _null_server(embedding_size: int) -> Iterator[str]:
    with needs("serve"):
        from arch_serve.null_model import NAME, write_null_model
    with temporary_folder("arch-null-") as folder:
        write_null_model(folder, embedding_size)
        with api.serve(folder, NAME, grpc_port=0, http_port=0, metrics_port=0) as server:
            yield server.grpc_url
