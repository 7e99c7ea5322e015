"""Progress of long work on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from arch_harness.bench.events import tell_note, told_work

LINE_S = 10.0
"""Seconds from one line to the next where no bar can be drawn."""


class _Beat:
    """Tells when a line is due: one for all that goes on, so that many short stages are not many lines, nor none."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def is_due(self, now: float) -> bool:
        """Whether it is; then the next one is not before `LINE_S` from now."""
        due = now - self._said >= LINE_S
        self._said = now if due else self._said
        return due


class _Lines:
    """Says in a line now and then how work goes, where the console is a pipe or a file."""

    def __init__(self, console: Console, beat: _Beat) -> None:
        self._console = console
        self._beat = beat
        self._began = time.monotonic()
        self._before: int | None = None

    def say(self, what: str, done: int, total: int | None, unit: str, how: str = "") -> None:
        """Say it, if that is due.

        Args:
            what: is being done.
            done: of it so far.
            total: of it; None where that is not known.
            unit: of both, in the plural.
            how: it goes.
        """
        if self._console.is_terminal:
            return
        now = time.monotonic()
        if self._before is None and done:  # before it, workers may have had to start
            self._before, self._began = done, now
        if not self._beat.is_due(now):
            return
        count = f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"
        new = done - (done if self._before is None else self._before)
        seconds = (total - done) * (now - self._began) / new if total and new else 0.0
        words = [count, how, f"{timedelta(seconds=round(seconds))} left" if seconds else ""]
        self._console.print(f"{what}: {', '.join(filter(None, words))}", highlight=False, markup=False, soft_wrap=True)


class Display:
    """Draws progress bars on a console, which go when their work is done; a pipe gets a line every ten seconds.

    What it is told goes into the run's log too, whether it draws or not.

    Args:
        console: None draws nothing.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console or Console(quiet=True)
        self._beat = _Beat()

    def note(self, text: str) -> None:
        """Say something that is worth a line."""
        tell_note(text)
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def embedding(self, model: str, dataset: str, clips: int) -> Iterator[Callable[[int, float, str], None]]:
        """A bar over clips, with clips/s, audio seconds per second and the phase; gives the function that advances it.

        The speed counts from the first clips that are told of: before them, workers may have had to start.
        """
        progress, lines = self._progress("embed", TextColumn("{task.fields[rate]}")), self._lines()
        with self._drawn(progress), told_work("embed", model, dataset, clips) as see:
            task = progress.add_task(f"{model} on {dataset}", total=clips, rate="")

            first: tuple[float, int, float] | None = None

            def advance(done: int, audio_seconds: float, phase: str) -> None:
                nonlocal first
                see(done, phase)
                now = time.monotonic()
                if done:
                    first = first or (now, done, audio_seconds)
                elapsed = now - first[0] if first else 0.0
                rate = phase
                if first and elapsed:
                    rate += f" {(done - first[1]) / elapsed:.1f} clips/s {(audio_seconds - first[2]) / elapsed:.0f} s/s"
                progress.update(task, completed=done, rate=rate)
                lines.say(f"embed {model} on {dataset}", done, clips, "clips", rate)

            yield advance

    @contextmanager
    def measuring(self, model: str, dataset: str, what: str) -> Iterator[Callable[[int, float, str], None]]:
        """A line for a measurement whose clips are sent again; gives the function that says how it goes."""
        progress = Progress(
            TextColumn("measure {task.description}", markup=False),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        lines = self._lines()
        with self._drawn(progress), told_work("measure", model, f"{dataset}, {what}") as see:
            task = progress.add_task(f"{model} on {dataset}, {what}", total=None, state="")

            def advance(done: int, _: float, phase: str) -> None:
                see(done, phase)
                progress.update(task, state=f"{phase}, {done:,} requests")
                lines.say(f"measure {model} on {dataset}, {what}", done, None, "requests", phase)

            yield advance

    @contextmanager
    def probing(self, model: str, dataset: str, epochs: int) -> Iterator[Callable[[], None]]:
        """A bar over the probe's epochs, all folds together; gives the function that advances it by one."""
        progress, lines, done = self._progress("probe", TextColumn("epochs")), self._lines(), 0
        with self._drawn(progress), told_work("probe", model, dataset, epochs) as see:
            task = progress.add_task(f"{model} on {dataset}", total=epochs)

            def advance() -> None:
                nonlocal done
                done += 1
                see(done, "epochs")
                progress.advance(task)
                lines.say(f"probe {model} on {dataset}", done, epochs, "epochs")

            yield advance

    def _lines(self) -> _Lines:
        return _Lines(self.console, self._beat)

    def _drawn(self, progress: Progress) -> AbstractContextManager[object]:
        """Draw it while the block runs, where that can be done: a pipe would get what is left of a bar."""
        return progress if self.console.is_terminal else nullcontext()

    def _progress(self, verb: str, unit: TextColumn) -> Progress:
        return Progress(
            TextColumn(f"{verb} {{task.description}}", markup=False),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            unit,
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self.console,
            transient=True,
        )
