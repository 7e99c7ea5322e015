"""What the table of metrics is made of: numbers, pairs of them, and the columns of words, which stand here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One number.

    Attributes:
        id: its name in data frames, and where it stands in `results.json`, there too.
        header: its name in tables.
        unit: in tables; `%` is stored as a share, from 0 to 1.
        better: which way is better; empty where neither is.
        meaning: one sentence, or two.
        source: who measured it.
        form: how a table writes it, a format specification, applied to percent where the unit is `%`; empty for about
            three significant digits, and whole numbers in full.
    """

    id: str
    header: str
    unit: str
    better: Literal["higher", "lower", ""]
    meaning: str
    source: Literal["probe", "client", "Triton's statistics", "operating system", "export", "configuration"]
    form: str = ""

    @property
    def label(self) -> str:
        """Header and unit in one line, for a drawing's axis."""
        return f"{self.header} ({self.unit})" if self.unit else self.header


@dataclass(frozen=True)
class MetricPair:
    """Two metrics that a table shows in one column.

    Attributes:
        id: names the column; no column of a data frame.
        header: its name in tables.
        unit: in tables.
        first: the metric that stands first.
        second: the other one.
        join: what stands between them.
        meaning: of both together.
    """

    id: str
    header: str
    unit: str
    first: str
    second: str
    join: str
    meaning: str


@dataclass(frozen=True)
class Attribute:
    """What a row is of, or how it came about: a column that holds no number.

    Attributes:
        id: its name in data frames.
        header: its name in tables.
        meaning: one sentence, or two.
    """

    id: str
    header: str
    meaning: str


ATTRIBUTES: dict[str, Attribute] = {
    attribute.id: attribute
    for attribute in (
        Attribute("model", "Model", "The model's name in its repository."),
        Attribute("dataset", "Dataset", "The dataset's name, with its variant after an @."),
        Attribute("probe", "Probe", "The kind of classifier that was trained on the embeddings."),
        Attribute(
            "score_metric", "Metric",
            "What the score is: accuracy or, where clips have several labels, macro mAP (map_macro).",
        ),
        Attribute("precision", "Precision", "What the model was exported for."),
        Attribute(
            "executed_by", "Runs in",
            "What the server says that it computes in, and with which execution provider of ONNX Runtime. NVIDIA's own "
            "backend does not tell: what its configuration lets one know.",
        ),
        Attribute(
            "transport", "Transport",
            "How the audio went to the server: grpc, within the request, or shared-memory, through memory that client "
            "and server have in common.",
        ),
        Attribute(
            "bottleneck", "Limit",
            "'server compute' if the server was busy for at least 85 % of the time. Otherwise, if the places in flight "
            "were nearly always taken, where a request spent most of its latency; if not, what the workers did "
            "instead.",
        ),
        Attribute(
            "steadiness", "Steady",
            "Whether three windows in a row, of 2 s or more each, differed by at most a tenth in clips/s; the measured "
            "phase begins with the first of them. 'too short': there were too few clips for three; the figures are of "
            "what there was, and rough.",
        ),
        Attribute("trained_on", "Trained on", "What the probe was trained on: the CPU, or the name of a GPU."),
        Attribute(
            "concurrency_found", "In flight found",
            "Whether the places in flight were raised until the throughput stopped growing, instead of asked for.",
        ),
        Attribute(
            "incomplete", "Incomplete",
            "Whether clips or classes of the dataset's official release are missing: such scores are marked with *, "
            "and cannot be compared with published ones.",
        ),
        Attribute(
            "carried_from", "Speed of",
            "When the speed was measured, where that was in an earlier run and this one took every embedding from the "
            "store: such figures are marked with †. results.json says where that was (carried); the clips, the model, "
            "the server's configuration and the settings are the same. Empty where the run measured it itself.",
        ),
        Attribute(
            "energy_source", "Energy of",
            "Whose power is known, and who tells of it: GPUs by Triton's metrics or by the driver (NVML), CPU packages "
            "by Linux (RAPL), with what the client does on them. In brackets or alone what is not told, and why.",
        ),
    )
}  # fmt: skip
