"""What is asked of an export, settled before torch is imported and a checkpoint is looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from arch_common.errors import ExportUsageError

from arch_export.checkpoint.aliases import ALIASES, LOGMEL
from arch_export.checkpoint.locate import check_reference, model_name
from arch_export.encoder.options import EncoderOptions
from arch_export.encoder.precision import Precision, Target, settle
from arch_export.serving import ServingOptions, parse_delay


@dataclass(frozen=True)
class Request:
    """What is asked for, as far as it can be right without a look at the checkpoint.

    Attributes:
        reference: an alias, a hub id, a checkpoint folder, or `logmel`.
        name: the model's; None is after the checkpoint.
        encoder_options: how many layers, and what padding does.
        precision: what the encoder computes in.
        target: the kind of machine that its configuration is written for.
        serving: what of its configuration is not left to the target.
    """

    reference: str
    name: str | None
    encoder_options: EncoderOptions
    precision: Precision
    target: Target
    serving: ServingOptions

    def name_for(self, checkpoint_name: str) -> str:
        """What the model is called.

        Raises:
            ExportUsageError: if no name was given and none can be made of the checkpoint's.
        """
        if self.name is not None:
            return self.name
        precision = "" if self.precision is Precision.FP32 else f"-{self.precision}"
        return model_name(checkpoint_name) + self.encoder_options.suffix + precision


def settle_request(
    reference: str,
    name: str | None = None,
    layers: str = "none",
    lengths: str = "padded",
    precision: str = Precision.FP32,
    target: str = Target.AUTO,
    max_queue_size: int | None = None,
    unnormalised: bool = False,
    max_batch: int | None = None,
    instances: int | None = None,
    queue_delay: str | None = None,
    threads: int | None = None,
    conv_search: str | None = None,
) -> Request:
    """Read what the command line or a program says; see `arch_export.pipeline.export`.

    Raises:
        ExportUsageError: if it cannot be right.
    """
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise ExportUsageError(f"{name!r} cannot name a model: use letters, digits, dots, dashes and underscores")
    chosen, where = settle(precision, target)
    delay_us = None if queue_delay is None else parse_delay(queue_delay)
    serving = ServingOptions(max_batch, instances, delay_us, threads, max_queue_size, conv_search)
    if conv_search is not None and where is not Target.GPU:
        raise ExportUsageError(f"--conv-search is of the CUDA provider: it needs --target gpu, not {where}")
    if reference == LOGMEL and chosen is not Precision.FP32:
        raise ExportUsageError(f"{LOGMEL} has no encoder to run in {chosen}; export it in fp32")
    form = EncoderOptions.parse(layers, lengths, unnormalised)
    request = Request(reference, name, form, chosen, where, serving)
    if reference != LOGMEL:
        check_reference(reference)
        folder = Path(reference).expanduser()
        if reference not in ALIASES and folder.is_dir():
            request.name_for(folder.resolve().name)  # not after gigabytes of weights were read
    return request
