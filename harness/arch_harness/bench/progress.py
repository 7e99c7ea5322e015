"""Progress of long work on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Display:
    """Draws progress bars on a console; where that is no terminal, one line is left for each finished bar.

    Args:
        console: None draws nothing.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console or Console(quiet=True)

    def note(self, text: str) -> None:
        """Say something that is worth a line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def embedding(self, model: str, dataset: str, clips: int) -> Iterator[Callable[[int, float, str], None]]:
        """A bar over clips, with clips/s, audio seconds per second and the phase; gives the function that advances it.

        The speed counts from the first clips that are told of: before them, workers may have had to start.
        """
        progress = self._progress("embed", TextColumn("{task.fields[rate]}"))
        with progress:
            task = progress.add_task(f"{model} on {dataset}", total=clips, rate="")

            first: tuple[float, int, float] | None = None

            def advance(done: int, audio_seconds: float, phase: str) -> None:
                nonlocal first
                now = time.monotonic()
                first = first or (now, done, audio_seconds)
                elapsed = now - first[0]
                rate = ""
                if elapsed:
                    rate = f"{(done - first[1]) / elapsed:.1f} clips/s {(audio_seconds - first[2]) / elapsed:.0f} s/s"
                    rate = f"{phase} {rate}"
                progress.update(task, completed=done, rate=rate)

            yield advance

    @contextmanager
    def measuring(self, model: str, dataset: str, what: str) -> Iterator[Callable[[int, float, str], None]]:
        """A line for a measurement whose clips are sent again; gives the function that says how it goes."""
        progress = Progress(
            TextColumn("measure {task.description}", markup=False),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=self.console,
        )
        with progress:
            task = progress.add_task(f"{model} on {dataset}, {what}", total=None, state="")
            yield lambda done, _, phase: progress.update(task, state=f"{phase}, {done:,} requests")

    @contextmanager
    def probing(self, model: str, dataset: str, epochs: int) -> Iterator[Callable[[], None]]:
        """A bar over the probe's epochs, all folds together; gives the function that advances it by one."""
        progress = self._progress("probe", TextColumn("epochs"))
        with progress:
            task = progress.add_task(f"{model} on {dataset}", total=epochs)
            yield lambda: progress.advance(task)

    def _progress(self, verb: str, unit: TextColumn) -> Progress:
        return Progress(
            TextColumn(f"{verb} {{task.description}}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            unit,
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self.console,
        )
