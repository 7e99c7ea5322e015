"""`arch bench`: datasets through a served encoder to one report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from arch_common import interrupt
from arch_common.errors import ArchError

from arch_bench import api, options
from arch_bench.commands.gate import gate
from arch_bench.commands.load import load
from arch_bench.extras import needs
from arch_bench.health.after_failure import explained
from arch_bench.terminal import ERR, OUT, show, show_error, show_partial

if TYPE_CHECKING:
    from arch_harness.triton.endpoint import Endpoint

    from arch_bench.config.following import Following
    from arch_bench.config.reading import BenchConfig
    from arch_bench.loaded import LoadedRun


def _read_file(context: typer.Context, file: Path | None) -> Path | None:
    """Let what the file says be the options' defaults, before any of them is looked at."""
    if file is not None and not context.resilient_parsing:
        with needs("bench"):
            from arch_bench.config.model import config_model
            from arch_bench.config.reading import read_config
        config = read_config(file, config_model(bench, load, gate))
        context.obj = config
        context.default_map = {
            name: str(value) if isinstance(value, Path) else value for name, value in config.options.items()
        }
    return file


def bench(
    context: typer.Context,
    dataset: Annotated[
        list[str], typer.Option(help="ID, ID=PATH, my.yaml or DIR; may be repeated. IDs: see arch data list.")
    ],
    _file: Annotated[
        Path | None,
        typer.Option(
            "-f",
            "--file",
            is_eager=True,
            callback=_read_file,
            help="A YAML file of these options, and of load tests and a gate after the run; options go before it.",
            show_default=False,
        ),
    ] = None,
    server: options.Servers = None,
    model: Annotated[list[str] | None, typer.Option(help="A model on the server; by default all of arch's.")] = None,
    repository: Annotated[Path, typer.Option(help="What a server started here serves.")] = api.REPOSITORY,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the report; one that was interrupted is completed. [reports/<time>]")
    ] = None,
    data_root: Annotated[Path, typer.Option(envvar="ARCH_DATA", help="Where ID without PATH is looked for.")] = Path(
        "data"
    ),
    splits: Annotated[
        options.Splits,
        typer.Option(help="arch: as the ARCH protocol; strict: speaker- or source-disjoint where it is not."),
    ] = options.Splits.ARCH,
    probe: options.Probes = None,
    seeds: options.Seeds = options.DEFAULT_SEEDS,
    seed: options.Seed = 0,
    tls: options.Tls = False,
    tls_ca: options.TlsCa = None,
    tls_cert: options.TlsCert = None,
    tls_key: options.TlsKey = None,
    header: options.Headers = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Single-clip requests in flight, over all servers; by default found while they run."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray workers; by default half the cores.")] = None,
    ray_address: options.RayAddress = None,
    transport: options.Transports = options.TransportChoice.GRPC,
    layers: Annotated[
        bool, typer.Option("--layers/--no-layers", help="Probe every layer too, of models exported with --layers all.")
    ] = False,
    cache: options.Cache = None,
    recompute: Annotated[
        bool,
        typer.Option("--recompute/--no-recompute", help="Embed again what is stored: to measure speed. Replaces it."),
    ] = False,
    repeat: Annotated[
        int, typer.Option(min=1, help="Measure the speed so many times; from two on the report has intervals.")
    ] = 1,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Clips/s at which all models are compared. By default 70 % of what the slowest of them reaches."
        ),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(
            metavar="AMOUNT/h",
            help="Price of an hour of all servers, such as 2.49/h: the report then has that of a million clips and of "
            "1,000 hours of audio.",
        ),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ASPECT,...",
            help="Score the same clips under other preprocessing too: padding, normalisation, resampler, loudness, "
            "length, or one setting of them such as loudness=peak.",
        ),
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option(help="Append what happens to this file, a JSON object a line.", show_default=False)
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the file for these options, and end: nothing is run.")
    ] = False,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
) -> None:
    """Stream datasets through a served encoder, probe the embeddings and write one report."""
    options.check_detail(verbose, quiet)
    if print_config:
        OUT.print(_config_text(context, Path.cwd()), end="", soft_wrap=True)
        return
    output = output or api.default_output()
    failing = partial(explained, repository, output, cache, own_server=not server)
    servers = options.endpoints_of(server, tls, tls_ca, header, (tls_cert, tls_key))
    strict = splits.value == "strict"
    following = _following(context, dataset, model or [], data_root, output, cache, servers, ray_address, strict)
    try:
        with failing(), interrupt.honoured():
            run = api.bench(
                dataset,
                servers=servers,
                models=model or [],
                repository=repository,
                output=output,
                data_root=data_root,
                splits=splits.value,
                probes=options.names_of(probe),
                seeds=seeds,
                seed=seed,
                layers=layers,
                concurrency=concurrency,
                workers=workers,
                ray_address=ray_address,
                transport=transport.value,
                cache=cache,
                recompute=recompute,
                repeat=repeat,
                rate=rate,
                price=price,
                ablate=ablate or [],
                log_file=log_file,
                command=options.shown_command(sys.argv[1:]),
                config=_config_text(context, None),
                console=None if quiet else ERR,
            )
    except KeyboardInterrupt:
        show_partial(output, verbose=verbose, quiet=quiet)
        ERR.print(f"interrupted; the same command with --output {shlex.quote(str(output))} goes on from here")
        raise typer.Exit(interrupt.INTERRUPTED) from None
    with failing():
        if following is None:
            show(run, verbose=verbose, quiet=quiet)
        else:
            _follow(following, run, repository, verbose, quiet)


def _config_text(context: typer.Context, folder: Path | None) -> str:
    """The file of what was given: for a folder, or, without one, for the record, which environment variables are in."""
    with needs("bench"):
        from arch_bench.config.model import config_model
        from arch_bench.config.reading import BenchConfig, parse_config
        from arch_bench.config.writing import ConfigWriter
    config: BenchConfig = context.obj or BenchConfig("")
    wanted = {"COMMANDLINE", "DEFAULT_MAP"} if folder else {"COMMANDLINE", "DEFAULT_MAP", "ENVIRONMENT"}
    given = {}
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name in wanted:
            given[name] = list(value) if isinstance(value, tuple) else value
    text = ConfigWriter(bench, load, gate).text(given, config.loads, config.gate, folder)
    if folder is not None:  # what is printed can be read, or it is said here what cannot
        parse_config(text, "--print-config", folder, config_model(bench, load, gate))
    return text


def _following(
    context: typer.Context,
    datasets: list[str],
    models: list[str],
    data_root: Path,
    output: Path,
    cache: Path | None,
    servers: list[Endpoint],
    ray_address: str | None,
    strict: bool,
) -> Following | None:
    """What the file asks for after the run, looked at before it; None without a file."""
    config: BenchConfig | None = context.obj
    if config is None:
        return None
    from arch_bench.config.following import Following

    source = context.get_parameter_source("dataset")
    own = source is not None and source.name == "DEFAULT_MAP"
    return Following(
        config,
        datasets,
        models,
        data_root=data_root,
        output=output,
        cache=cache,
        servers=servers,
        ray_address=ray_address,
        strict=strict,
        own=own,
    )


def _follow(following: Following, run: LoadedRun, repository: Path, verbose: bool, quiet: bool) -> None:
    """Show the run and what follows it; a failed gate is told by its exit code whatever else was wrong.

    Raises:
        typer.Exit: with the highest of the exit codes: 3 for a gate, 1 for what could not be done.
    """
    codes = [_code(lambda: show(run, verbose=verbose, quiet=quiet))]

    def test(measure: Callable[[], Any]) -> None:
        tested = measure()
        if not quiet:
            OUT.print(tested)
        OUT.print(str(tested.page) if quiet else f"report: {tested.page}", soft_wrap=True)
        if tested.failure:
            raise ArchError(tested.failure)

    def judge() -> None:
        found = following.judge(run, lambda text: ERR.print(text, soft_wrap=True))
        if found is not None:
            OUT.print(found, soft_wrap=True)
            found.enforce()

    command = options.shown_command(sys.argv[1:])
    tests = following.load_tests(repository=repository, command=command, console=None if quiet else ERR)
    codes += [_code(partial(test, measure)) for measure in tests]
    codes.append(_code(judge))
    if any(codes):
        raise typer.Exit(max(codes))


def _code(step: Callable[[], None]) -> int:
    """The exit code of a step, whose error is told here, so that the next one goes on."""
    try:
        step()
    except typer.Exit as ended:
        return int(ended.exit_code)
    except ArchError as error:
        interrupt.check()  # an error that Ctrl-C made is no step's own
        show_error(error)
        return error.exit_code
    return 0
