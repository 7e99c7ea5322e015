"""The measurements of a tuning as they come, a line each, so that one that was interrupted goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError, UsageError
from pydantic import ValidationError

from arch_harness.tuning.results import TuneRun, TuneSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JOURNAL = "runs.jsonl"


class Journal:
    """The runs of a tuning in a folder, those of earlier commands too.

    The first line holds the settings, and any other a run. What was not written to its end, when the power failed, say,
    is left out.

    Args:
        folder: of the tuning.
        settings: of this one.

    Raises:
        UsageError: if the folder holds runs of another tuning.
        ArchError: if it cannot be read or written.
    """

    def __init__(self, folder: Path, settings: TuneSettings) -> None:
        self._path = folder / JOURNAL
        self._runs: dict[tuple[str, str], list[TuneRun]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = self._path.read_bytes().split(b"\n") if self._path.exists() else []
        except OSError as error:
            raise ArchError(f"cannot read {self._path}: {error.strerror or error}") from error
        whole = [line for line in lines[:-1] if line]  # what is behind the last line break was cut off
        if not whole:
            self._write(settings.model_dump(mode="json"), new=True)
            return
        self._check(whole[0], settings)
        for line in whole[1:]:
            try:
                self._keep(TuneRun.from_json(line))
            except (ValueError, ValidationError):
                continue
        if lines[-1]:
            self._write(None)

    def _check(self, line: bytes, settings: TuneSettings) -> None:
        try:
            earlier = TuneSettings.from_json(line)
        except ValueError as error:
            raise UsageError(f"{self._path} is no journal of a tuning: name another --output") from error
        for name in TuneSettings.model_fields:
            was, now = getattr(earlier, name), getattr(settings, name)
            if was != now:
                what = "the model's files are others" if name == "source" else f"its {name} is {was}, and {now} now"
                if name == "packages":
                    what = _other_version(was, now)
                raise UsageError(f"{self._path.parent} holds another tuning, {what}: name another --output")

    @property
    def count(self) -> int:
        """Of all runs."""
        return sum(map(len, self._runs.values()))

    def runs(self, configuration: str, content_hash: str) -> Sequence[TuneRun]:
        """Those of a configuration of that graph, in their order."""
        return self._runs.get((configuration, content_hash), [])

    def add(self, run: TuneRun) -> None:
        """Keep a run, on the disk when this returns.

        Raises:
            ArchError: if it cannot be written.
        """
        self._write(run.model_dump(mode="json"))
        self._keep(run)

    def _keep(self, run: TuneRun) -> None:
        self._runs.setdefault((run.configuration, run.content_hash), []).append(run)

    def _write(self, facts: dict[str, object] | None, new: bool = False) -> None:
        """Append a line; without facts, end the one that was cut off."""
        text = "" if facts is None else json.dumps(facts, ensure_ascii=False)
        try:
            with self._path.open("wb" if new else "ab") as file:
                file.write((text + "\n").encode(errors="backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ArchError(f"cannot write {self._path}: {error.strerror or error}") from error


def _other_version(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The first of the packages whose version is another."""
    name = next(one for one in sorted({*was, *now}) if was.get(one) != now.get(one))
    return f"its {name} is {was.get(name, 'not there')}, and {now.get(name, 'not there')} now"
