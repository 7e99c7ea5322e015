"""The precisions that an encoder is exported in, the machines it is meant for, and what each precision must keep."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from arch_common.errors import ExportUsageError


class Precision(StrEnum):
    """What the encoder computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    """fp16 weights and hidden states; normaliser, the first norm's statistics and pooling in fp32 or fp64. For GPUs."""
    TF32 = "tf32"
    """The fp32 graph, whose products a GPU takes in TF32: operands of 11 significant bits, sums in fp32."""
    INT8 = "int8"
    """Dynamic int8 matrix products, everything else in fp32. For CPUs."""
    BF16 = "bf16"
    """For CPUs with AMX or AVX512-BF16 the fp32 graph, which the server runs in bf16; for GPUs as fp16."""


class Target(StrEnum):
    """Where the model is to be served; decides what stands in `config.pbtxt`."""

    AUTO = "auto"
    """Whatever the server finds: a GPU if there is one, else the CPU."""
    CPU = "cpu"
    GPU = "gpu"
    TENSORRT = "tensorrt"


_TARGETS = {
    Precision.FP32: tuple(Target),
    Precision.FP16: (Target.AUTO, Target.GPU, Target.TENSORRT),
    Precision.TF32: (Target.AUTO, Target.GPU),
    Precision.INT8: (Target.AUTO, Target.CPU),
    Precision.BF16: (Target.AUTO, Target.CPU, Target.GPU),
}


def settle(precision: str, target: str) -> tuple[Precision, Target]:
    """The precision and the target that are meant: `auto` becomes the machine that a precision other than fp32 is for.

    Raises:
        ExportUsageError: if there is no such precision or target, or one does not go with the other.
    """
    for what, found, known in (("precision", precision, Precision), ("target", target, Target)):
        if found not in list(known):
            raise ExportUsageError(f"unknown {what} {found!r}: choose one of {', '.join(known)}")
    chosen, where = Precision(precision), Target(target)
    allowed = _TARGETS[chosen]
    if where not in allowed:
        others = [one for one, targets in _TARGETS.items() if where in targets]
        raise ExportUsageError(
            f"{chosen} is for the target {' or '.join(allowed[1:])}, not {where}, which takes {' or '.join(others)}"
        )
    return chosen, allowed[1] if where is Target.AUTO and chosen is not Precision.FP32 else where


@dataclass(frozen=True)
class Limits:
    """What a variant must keep of the original model's embeddings, measured on the clips of `parity.cases`.

    Attributes:
        mean_cosine: least mean cosine to the original.
        min_cosine: least cosine of any clip.
        max_relative_error: largest |ours - original| / |original| of any clip.
        max_batch_effect: largest |in its batch - alone| / |alone| of any clip.
    """

    mean_cosine: float
    min_cosine: float
    max_relative_error: float
    max_batch_effect: float


# fp32 allows rounding, which measured up to 7e-5 at real size with random weights. The others must keep the mean
# cosine, and the worst clip may be ten times as far from the original in direction as the mean. A cosine c alone means
# a relative error of sqrt(2 - 2c); the error may be twice that of the worst cosine, so that a wrong scale shows too.
# TF32 keeps as many bits as fp16. How far the others in its batch move a clip must stay below what the precision itself
# may cost a typical clip: sqrt(2 - 2 mean cosine).
LIMITS = {
    Precision.FP32: Limits(1 - 1e-8, 1 - 1e-8, 1e-4, 1e-4),
    Precision.FP16: Limits(0.9999, 0.999, 0.09, 0.014),
    Precision.TF32: Limits(0.9999, 0.999, 0.09, 0.014),
    Precision.BF16: Limits(0.999, 0.99, 0.28, 0.045),
    Precision.INT8: Limits(0.99, 0.9, 0.9, 0.14),
}


def may_batch(precision: Precision, exact: bool, max_batch_effect: float) -> bool:
    """Whether a model may be served in batches.

    Dynamic int8 takes one scale of its activations over a whole batch; alone, a clip has no others to suffer from.

    Args:
        precision: of the model.
        exact: whether padding changes nothing in it.
        max_batch_effect: how far the others in its batch move a clip at most, relative; measured.
    """
    return precision is not Precision.INT8 or exact or max_batch_effect <= LIMITS[precision].max_batch_effect
