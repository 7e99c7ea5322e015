"""What the file asks for after the run: load tests and a gate; both are looked at before anything is started."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arch_common.errors import ArchError, MissingExtraError, UsageError
from arch_common.files import can_be_written, check_folder
from arch_harness.decision.thresholds import read_thresholds

from arch_bench import api, data
from arch_bench.config.keys import THRESHOLDS
from arch_bench.decisions.gating import Gate, gate
from arch_bench.load_tests.testing import LoadTested, check_local, load_test, request_of
from arch_bench.loaded import LoadedRun, load, run_folder
from arch_bench.options import pairs_of

if TYPE_CHECKING:
    from arch_harness.triton.endpoint import Endpoint

    from arch_bench.config.reading import BenchConfig, ConfigFault


class Following:
    """Load tests and a gate after a run.

    Args:
        config: the file.
        datasets: of the run, as `--dataset` takes them; the first is that of a load test that names none.
        models: of the run; none where they are all that the server has.
        data_root: where an id without a path is looked for.
        output: the run's folder.
        cache: its embedding store.
        servers: of the run; none where one is started.
        ray_address: of the run; None where Ray is started here.
        strict: whether the run takes stricter splits.
        own: whether the datasets are those of the file.

    Raises:
        ConfigError: with everything that cannot be: data that is not there, a baseline that is none.
        UsageError: if the datasets are not those of the file and cannot be opened, or LoadGen is not installed.
    """

    def __init__(
        self,
        config: BenchConfig,
        datasets: Sequence[str],
        models: Sequence[str],
        *,
        data_root: Path,
        output: Path,
        cache: Path | None,
        servers: Sequence[Endpoint],
        ray_address: str | None,
        strict: bool,
        own: bool,
    ) -> None:
        self._config, self._datasets, self._models = config, list(datasets), list(models)
        self._data_root, self._output, self._cache = data_root, output, cache
        self._servers, self._ray_address = list(servers), ray_address
        faults: list[ConfigFault] = []
        ids = []
        for number, name in enumerate(datasets):
            try:
                ids.append(data.open_dataset(name, data_root, strict=strict).id)
            except UsageError as error:
                if not own:
                    raise
                faults.append(config.fault(("datasets", number), str(error)))
        for number, asked in enumerate(config.loads):
            faults += self._of_load(number, asked)
        if config.gate is not None:
            faults += self._of_gate(config.gate, ids)
        if faults:
            raise config.error(faults)

    def _of_load(self, number: int, asked: Mapping[str, Any]) -> list[ConfigFault]:
        faults = []
        try:
            request = request_of(**{name: value for name, value in asked.items() if name not in ("dataset", "model")})
            if request.transport == "shared-memory":
                check_local(self._servers)
            api.checked_ray(self._ray_address, request.workers)
            if number:  # the first's is the run's
                check_folder(self._folder_of_load(number), "its folder")
        except MissingExtraError:
            raise
        except UsageError as error:
            faults.append(self._config.fault(("loads", number), str(error)))
        if "dataset" in asked:
            try:
                data.open_dataset(asked["dataset"], self._data_root)
            except UsageError as error:
                faults.append(self._config.fault(("loads", number, "dataset"), str(error)))
        return faults

    def _of_gate(self, asked: Mapping[str, Any], ids: Sequence[str]) -> list[ConfigFault]:
        fault = self._config.fault
        faults = []
        try:
            read_thresholds({name: asked.get(name) for name in THRESHOLDS})
        except UsageError as error:
            faults.append(fault(("gate",), str(error).replace("--", "")))
        if os.path.realpath(run_folder(asked["baseline"])) == os.path.realpath(self._output):
            words = "is the output, which this run writes: it would be held against itself"
            return [*faults, fault(("gate", "baseline"), words)]
        try:
            baseline = load(asked["baseline"]).run
        except ArchError as error:
            return [*faults, fault(("gate", "baseline"), str(error))]
        theirs = {one.model for one in baseline.results}
        for key, name, known in (
            ("models", "model", {*self._models, *theirs} if self._models else None),
            ("datasets", "dataset", {*ids, *(one.dataset for one in baseline.results)}),
        ):
            for number, word in enumerate(asked.get(name, ())):
                if known is not None and word not in known:
                    words = f"neither this run nor the baseline has {word!r}; they have {', '.join(sorted(known))}"
                    faults.append(fault(("gate", key, number), words))
        try:
            for number, other in enumerate(pairs_of(asked.get("pair")).values()):
                if other not in theirs:
                    words = f"the baseline has no model {other!r}; it has {', '.join(sorted(theirs))}"
                    faults.append(fault(("gate", "pairs", number), words))
        except UsageError as error:
            faults.append(fault(("gate", "pairs"), str(error)))
        for name in ("junit", "markdown", "json"):
            folder = Path(asked[name]).parent if name in asked else self._output
            made = os.path.realpath(folder) == os.path.realpath(self._output)
            if not made and not (folder.is_dir() and can_be_written(folder)):
                faults.append(fault(("gate", name), f"there is no folder {folder} that can be written"))
        return faults

    def load_tests(self, **shared: Any) -> Sequence[Callable[[], LoadTested]]:
        """The load tests, each to be called; the first writes beside the report, those after it into `load-2` and on.

        Args:
            shared: arguments of `load_test` that are those of the run: repository, command, console.
        """
        found = []
        for number, asked in enumerate(self._config.loads):
            arguments = dict(asked)
            dataset = arguments.pop("dataset", self._datasets[0])
            models = arguments.pop("model", self._models)
            given = {**shared, **arguments, "servers": self._servers, "models": models}
            given["output"] = self._folder_of_load(number)
            given |= {"data_root": self._data_root, "ray_address": self._ray_address}
            found.append(partial(load_test, dataset, **given))
        return found

    def _folder_of_load(self, number: int) -> Path:
        return self._output / f"load-{number + 1}" if number else self._output

    def judge(self, run: LoadedRun, note: Callable[[str], None]) -> Gate | None:
        """The run held to the file's thresholds, and written where the file says; None without a gate."""
        if self._config.gate is None:
            return None
        asked = dict(self._config.gate)
        files = {name: asked.pop(name, None) for name in ("junit", "markdown", "json")}
        found = gate(
            run,
            asked.pop("baseline"),
            pairs=pairs_of(asked.pop("pair", None)),
            models=asked.pop("model", ()),
            datasets=asked.pop("dataset", ()),
            cache=self._cache,
            note=note,
            **asked,
        )
        found.write(**files)
        return found
