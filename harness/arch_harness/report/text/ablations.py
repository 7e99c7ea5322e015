"""What the report says of preprocessing ablations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_harness.report.text.numbers import clean, percent, plural, points
from arch_harness.report.text.tables import Column, Meaning, Section, Table, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.results.checks.ablations import Ablation, AblationSetting
    from arch_harness.results.run import Run

UNMOVED = 1e-5
"""Relative change of an embedding below which other clips in its batch, or rounding, account for it."""

WORDS: dict[AblationSetting, str] = {
    "padding=exact": "The export with --lengths exact, in which padding changes nothing, instead of the padded one.",
    "normalisation=off": "The export with --unnormalised, which takes the waveform as it is.",
    "normalisation=on": "Each clip with zero mean and unit variance of its own samples, before it is padded and sent.",
    "resampler=soxr-qq": "soxr's quick quality, cubic interpolation, which aliases, instead of its high quality.",
    "resampler=soxr-lq": "soxr's low quality instead of its high one.",
    "resampler=soxr-vhq": "soxr's very high quality instead of its high one.",
    "loudness=peak": "Each clip scaled until its largest sample is 1, instead of as it is in the file.",
    "loudness=rms": "Each clip scaled to -20 dB of full scale (RMS); samples may go beyond 1.",
    "length=centre": "The middle of files that are longer than the dataset's clips are cut to, instead of their start.",
    "length=first-half": "The first half of the seconds that clips are cut to; the rest is padding.",
    "length=centre-half": "Half of these seconds, from the middle of the file; the rest is padding.",
}


def verdict(one: Ablation) -> str:
    """Whether the difference is real, in a word or two."""
    if one.largest_change < UNMOVED:
        return "no effect"
    return "real" if one.more_than_noise else "noise"


def interval_points(one: Ablation) -> str:
    """The ends of the difference's interval."""
    return f"{points(one.low)} to {points(one.high)}"


def ablation_section(run: Run) -> Section | None:
    """The table of a run's ablations; None where there are none."""
    if not run.ablations:
        return None
    columns = (
        *columns_of("dataset", "model"),
        Column("Setting"),
        *columns_of("score"),
        Column("Difference", "points", True),
        Column("95% interval", "points", True),
        Column("Verdict"),
        Column("Cosine", "mean", True),
        Column("Test clips", "", True),
    )
    rows = [
        (
            clean(one.dataset),
            clean(one.model),
            one.setting + (f" ({clean(one.variant)})" if one.variant else ""),
            percent(one.score),
            points(one.difference),
            interval_points(one),
            verdict(one),
            f"{one.mean_cosine:.4f}",
            f"{one.clips:,}",
        )
        for one in run.ablations
    ]
    text = (
        "The same clips under another preprocessing, by the first probe, trained anew. The difference is the score "
        "less that under the protocol's preprocessing: first seconds, as loud as in the file, soxr's high quality, "
        "padding and normalisation as the model was exported. It is real if its interval, over the same samples of "
        "clips for both, leaves out 0; there is no effect where no embedding moved. Of many settings, one in twenty "
        "would seem real by chance alone. Cosine is that of a clip's two embeddings. No speed was measured."
    )
    used = [setting for setting in WORDS if any(one.setting == setting for one in run.ablations)]
    return Section("Preprocessing", text, Table(columns, rows), [Meaning(one, WORDS[one]) for one in used])


def ablation_lines(found: Sequence[Ablation]) -> list[str]:
    """What ablations come to, in a sentence or two."""
    counts = {word: sum(verdict(one) == word for one in found) for word in ("real", "noise", "no effect")}
    words = (
        f"{counts['real']} of {plural(len(found), 'other setting')} of the preprocessing change a score by more than "
    )
    return [f"{words}noise, {counts['noise']} do not, {counts['no effect']} move no embedding."]
