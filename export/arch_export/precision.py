"""The precisions that an encoder is exported in, the machines it is meant for, and what each precision must keep."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from arch_export.errors import ExportUsageError


class Precision(StrEnum):
    """What the encoder computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    """fp16 weights and products; normaliser, first norm, LayerNorm and pooling in fp32 or fp64. For GPUs."""
    INT8 = "int8"
    """Dynamic int8 matrix products, everything else in fp32. For CPUs."""
    BF16 = "bf16"
    """The fp32 graph, which the server runs in bf16. For CPUs with AMX or AVX512-BF16."""


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
    Precision.INT8: (Target.AUTO, Target.CPU),
    Precision.BF16: (Target.AUTO, Target.CPU),
}


def check_target(precision: Precision, target: Target) -> Target:
    """What `target` means for `precision`: `auto` becomes the kind of machine that the precision is made for.

    Raises:
        ExportUsageError: if the precision is not for that target.
    """
    allowed = _TARGETS[precision]
    if target not in allowed:
        raise ExportUsageError(
            f"{precision} does not go with the target {target}: it is for {' and '.join(allowed[1:])}; "
            f"the target {target} takes {', '.join(one for one, targets in _TARGETS.items() if target in targets)}"
        )
    if target is Target.AUTO and precision is not Precision.FP32:
        return allowed[1]
    return target


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


# fp32 allows rounding, which measures below 1e-5 on this family. The others must keep the mean cosine, and the worst
# clip may be ten times as far from the original in direction as the mean. A cosine c alone means a relative error of
# sqrt(2 - 2c); the error may be twice that of the worst cosine, so that a wrong scale shows too. What moves a clip with
# its batch mates must stay below what the precision itself may cost a typical clip: sqrt(2 - 2 mean cosine).
LIMITS = {
    Precision.FP32: Limits(1 - 1e-8, 1 - 1e-8, 1e-4, 1e-4),
    Precision.FP16: Limits(0.9999, 0.999, 0.09, 0.014),
    Precision.BF16: Limits(0.999, 0.99, 0.28, 0.045),
    Precision.INT8: Limits(0.99, 0.9, 0.9, 0.14),
}
