"""The experiments of the ARCH paper that have a name, and what else is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arch_common.errors import UsageError

from arch_bench import data
from arch_bench.extras import needs


@dataclass(frozen=True)
class Experiment:
    """A question to the published tables.

    Attributes:
        title: the question.
        aliases: of the checkpoints that it is about.
        pairs: aliases of two of them, of which it is asked which is ahead.
    """

    title: str
    aliases: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()


_SIZES = (
    ("hubert-large-as", "hubert-base-as"),
    ("hubert-large", "hubert-base"),
    ("wavlm-large", "wavlm-base-plus"),
    ("data2vec-large", "data2vec-base"),
)
EXPERIMENTS = {
    "hubert-as-base": Experiment(
        "HuBERT pre-trained on AudioSet, of the base size, on the datasets of ARCH", ("hubert-base-as",)
    ),
    "discrete-vs-continuous": Experiment(
        "Discrete targets against continuous ones: HuBERT and wav2vec 2.0, both pre-trained on AudioSet",
        ("hubert-base-as", "wav2vec2-base-as"),
        (("hubert-base-as", "wav2vec2-base-as"),),
    ),
    "base-vs-large": Experiment(
        "The base size against the large one, family by family",
        tuple(alias for large, base in _SIZES for alias in (base, large)),
        _SIZES,
    ),
}
"""Each on the twelve datasets of ARCH."""


@dataclass(frozen=True)
class Subject:
    """A checkpoint that is asked for.

    Attributes:
        reference: what is exported: an alias, a hub id, or a folder that stands for a published checkpoint.
        checkpoint: the published one that it is set beside, by hub id.
        name: the model's in the repository.
    """

    reference: str
    checkpoint: str
    name: str

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, which nothing tells to hold the published weights."""
        return Path(self.reference).expanduser().is_dir()


@dataclass(frozen=True)
class Asked:
    """What is to be run.

    Attributes:
        title: what is to be found out.
        subjects: the checkpoints.
        datasets: each an id, or `ID=PATH`, of the twelve.
        pairs: hub ids of two checkpoints of which it is asked which is ahead.
        slug: what a folder for it is called.
    """

    title: str
    subjects: tuple[Subject, ...]
    datasets: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    slug: str


def settle(experiment: str | None, models: Sequence[str], datasets: Sequence[str]) -> Asked:
    """Read what is asked for.

    Args:
        experiment: the name of one; None where models are named.
        models: `ALIAS`, a hub id or `ALIAS=FOLDER`; they take the place of the experiment's.
        datasets: ids of the twelve, or `ID=PATH`; none is all of them.

    Raises:
        UsageError: if there is no such experiment, or there is no published score for a model or dataset.
    """
    if experiment is not None and experiment not in EXPERIMENTS:
        raise UsageError(f"there is no experiment {experiment!r}; there are: {', '.join(EXPERIMENTS)}")
    if experiment is None and not models:
        raise UsageError(f"what is to be reproduced? Name an experiment ({', '.join(EXPERIMENTS)}), or --model")
    known = EXPERIMENTS[experiment] if experiment else Experiment("Ours against published", ())
    with needs("export"):
        from arch_export.checkpoint.aliases import ALIASES
    subjects = tuple(dict.fromkeys(_subject(one) for one in (models or known.aliases)))
    for place, one in enumerate(subjects):
        twin = next((other for other in subjects[:place] if other.name == one.name), None)
        if twin is not None:
            raise UsageError(
                f"{twin.reference} and {one.reference} would both be the model {one.name!r}: rename a folder"
            )
    return Asked(
        known.title,
        subjects,
        tuple(_datasets(datasets)),
        tuple((ALIASES[one].checkpoint, ALIASES[other].checkpoint) for one, other in known.pairs),
        experiment or "-".join(sorted(one.name for one in subjects))[:80],
    )


def _subject(given: str) -> Subject:
    with needs("export"):
        from arch_export.checkpoint.aliases import ALIASES
        from arch_export.request import settle_request
    with needs("bench"):
        from arch_harness.published.table import published_models
    alias, separate, folder = given.partition("=")
    checkpoint = ALIASES[alias].checkpoint if alias in ALIASES else alias
    if checkpoint not in published_models():
        hint = ", ".join(ALIASES)
        stand_in = f"; a folder stands for one of them as ALIAS={given}" if Path(given).expanduser().is_dir() else ""
        raise UsageError(f"no score of {given!r} was published; there are scores of {hint}{stand_in}")
    if separate and not Path(folder).expanduser().is_dir():
        raise UsageError(f"{given}: there is no folder {folder}")
    # A hub id that has a short name is that model, whichever way it was asked for.
    short = next((name for name, one in ALIASES.items() if one.checkpoint == checkpoint), alias)
    reference = folder if separate else short
    request = settle_request(reference)
    name = request.name_for(Path(folder).expanduser().resolve().name if separate else reference)
    return Subject(reference, checkpoint, name)


def _datasets(given: Sequence[str]) -> list[str]:
    with needs("bench"):
        from arch_harness.datasets.catalog import ARCH
        from arch_harness.datasets.dataset import STRICT
    twelve = [one.id for one in ARCH]
    for one in given:
        identifier = data.find_declaration(one.partition("=")[0].removesuffix(STRICT)).id
        if identifier not in twelve:
            raise UsageError(f"no scores on {identifier!r} were published; there are scores on {', '.join(twelve)}")
    return list(dict.fromkeys(given)) or twelve
