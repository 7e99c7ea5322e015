"""Models for a GPU machine that cannot export and takes no large upload: skeletons, whose weights are made there.

A skeleton is a model of a repository without its large weights. Of each, `skeleton.json` keeps the mean and the spread,
and `regenerate` draws numbers like them from a seed: the time that a graph takes does not depend on its weights. What
is small, or no weight at all, stays in the graph as it was.

Weights of bf16 are handled as 16-bit integers, because NumPy has no such type: bf16 is the upper half of fp32, rounded.
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_RATE = 16000
SECONDS = (5, 10)
TWIN = "model.twin.onnx"
# Tensors of fewer bytes stay in the graph: biases, gains, tables, and the first convolution, which occurs twice.
_SMALL = 64 * 1024
# Random numbers that all weights are cut from, at a place of their own each; drawing them all would take a minute.
_POOL = 1 << 24
_DTYPES = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16"}  # onnx.TensorProto's numbers
_NUMPY = {"fp32": "<f4", "fp16": "<f2", "fp64": "<f8", "bf16": "<u2"}
Array = np.ndarray[Any, np.dtype[Any]]
Say = Callable[[str], None]

# A few seconds' work for a CPU, to rehearse with.
_TINY: dict[str, Any] = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 256,
    "intermediate_size": 512,
    "conv_dim": (64,) * 7,
}
_LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
# Name of a variant, its precision and its target; the last one is what GPUs got before they had graphs of their own.
VARIANTS = {
    "fp16": ("fp16", "gpu"),
    "bf16": ("bf16", "gpu"),
    "tf32": ("tf32", "gpu"),
    "fp32": ("fp32", "gpu"),
    "generic": ("fp16", "tensorrt"),
}
_FAMILIES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech-sat")
_FAMILY_LAYERS = 2


@dataclass(frozen=True)
class Skeleton:
    """One model of the folder.

    Attributes:
        name: its own, and its folder's.
        size: `base` or `large` at real size, `family` for a shallow one.
        variant: a key of `VARIANTS`.
        precision: what it computes in.
        family: transformers' `model_type`.
        config: what differs from transformers' defaults for the family.
        gflop: seconds of a clip -> GFLOP of its products and convolutions.
        bytes: of the weights' file.
        tensors: offset, length in bytes, type, mean, spread of each weight in it.
    """

    name: str
    size: str
    variant: str
    precision: str
    family: str
    config: dict[str, Any]
    gflop: dict[str, float]
    bytes: int
    tensors: list[tuple[int, int, str, float, float]] = field(repr=False)

    def graph(self, folder: Path, device: str) -> Path:
        """The ONNX file that runs on `device`, cuda or cpu: a CPU lacks channels-last convolutions, its twin not."""
        twin = folder / self.name / "1" / TWIN
        return twin if device == "cpu" and twin.is_file() else folder / self.name / "1" / "model.onnx"


def load(folder: Path) -> list[Skeleton]:
    """The skeletons in `folder`, base and large first."""
    found = [Skeleton(**json.loads(path.read_text())) for path in sorted(folder.glob("*/skeleton.json"))]
    return sorted(found, key=lambda one: (one.size == "family", one.name))


def regenerate(folder: Path, skeletons: list[Skeleton], threads: int) -> int:
    """Write the weights that are not there; gives how many bytes that were."""
    wanted = [one for one in skeletons if not _complete(folder / one.name / "1" / "model.onnx.data", one.bytes)]
    if not wanted:
        return 0
    pool = np.random.default_rng(0).standard_normal(_POOL, dtype=np.float32)
    alike: dict[str, Path] = {}
    with ThreadPoolExecutor(threads) as executor:
        for skeleton in wanted:
            path = folder / skeleton.name / "1" / "model.onnx.data"
            path.unlink(missing_ok=True)
            same = alike.setdefault(repr(skeleton.tensors), path)
            if same != path:  # TF32 computes with fp32's weights
                path.hardlink_to(same)
                continue
            scratch = path.with_suffix(".part")
            weights = np.memmap(scratch, np.uint8, "w+", shape=(skeleton.bytes,))
            places = np.random.default_rng(1).integers(0, _POOL, len(skeleton.tensors)).tolist()
            fill = functools.partial(_fill, weights, pool)
            list(executor.map(fill, skeleton.tensors, places))  # the list raises what a thread did
            del weights, fill
            scratch.replace(path)
    return sum(one.bytes for one in wanted)


def _complete(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _fill(weights: Array, pool: Array, tensor: tuple[int, int, str, float, float], place: int) -> None:
    """Write one tensor, from `place` in the pool on."""
    offset, length, dtype, mean, spread = tensor
    target = weights[offset : offset + length].view(_NUMPY[dtype])
    done = 0
    while done < len(target):
        piece = pool[place : place + len(target) - done]
        target[done : done + len(piece)] = encode(piece * np.float32(spread) + np.float32(mean), dtype)
        done, place = done + len(piece), 0


def encode(values: Array, dtype: str) -> Array:
    """FP32 `values` in another type; bf16 as the 16 bits that it has, rounded to nearest, ties to even."""
    if dtype != "bf16":
        return values.astype(_NUMPY[dtype])
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def decode(stored: Array, dtype: str) -> Array:
    """What `encode` made, as FP64."""
    if dtype == "bf16":
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float64)


def prepare(folder: Path, models: list[str], variants: list[str], tiny: bool, say: Say) -> None:
    """Export from random weights and keep skeletons in `folder`; what the export refuses is told and left out.

    Args:
        folder: the skeletons are put in, in place of those of the same name.
        models: of `base`, `large` and `families`.
        variants: keys of `VARIANTS`, of base and large.
        tiny: small configurations in place of the real ones.
        say: told what is done.
    """
    from export_table import LARGE

    for size, published in (("base", {}), ("large", LARGE)):
        if size in models:
            config = {**published, **((_LAYER_NORM if size == "large" else {}) | _TINY if tiny else {})}
            _export_all(
                folder, size, size, "hubert", config, {f"{size}-{key}": (key, "padded") for key in variants}, say
            )
    if "families" in models:
        for family in _FAMILIES:
            for norm in ("base", "large"):
                if family == "data2vec-audio" and norm == "large":
                    continue  # it has the layer norm at any size
                config = {
                    **(LARGE if norm == "large" else {}),
                    "num_hidden_layers": _FAMILY_LAYERS,
                    **(_TINY if tiny else {}),
                }
                names = {f"{family}-{norm}-{lengths}": ("fp16", lengths) for lengths in ("padded", "exact")}
                _export_all(folder, "family", f"{family}-{norm}", family, config, names, say)


def _export_all(
    folder: Path,
    size: str,
    title: str,
    family: str,
    config: dict[str, Any],
    names: dict[str, tuple[str, str]],
    say: Say,
) -> None:
    """Every variant of one checkpoint; `names` maps a model's name to its variant and what padding does."""
    from arch_common.errors import ArchError
    from arch_export.checkpoint.random_weights import write_random
    from arch_export.pipeline import export

    with tempfile.TemporaryDirectory(dir=folder, prefix=".prepare-") as scratch:
        checkpoint = Path(scratch) / title
        attended = config.get("feat_extract_norm") == "layer"
        # Spread like a trained encoder's, so that parity is no easier than it is in use; data2vec's cannot be.
        spread = family != "data2vec-audio"
        write_random(checkpoint, family, return_attention_mask=attended, trained_scales=spread, **config)
        gflop = {str(seconds): _gflop(family, config, seconds) for seconds in SECONDS}
        for name, (variant, lengths) in names.items():
            precision, target = VARIANTS[variant]
            say(f"{name}: exporting in {precision} for {target}")
            repository = Path(scratch) / "repository"
            try:
                exported = export(
                    str(checkpoint), repository, name, lengths=lengths, precision=precision, target=target, force=True
                )
            except ArchError as error:
                say(f"{name}: left out: {error}")
                continue
            for miss in exported.misses:
                say(f"{name}: {miss}")
            kept = Skeleton(
                name, size, variant, precision, family, config, gflop, *_strip(exported.folder, precision, target)
            )
            (exported.folder / "skeleton.json").write_text(json.dumps(asdict(kept)))
            shutil.rmtree(folder / name, ignore_errors=True)
            exported.folder.replace(folder / name)


def _strip(model: Path, precision: str, target: str) -> tuple[int, list[tuple[int, int, str, float, float]]]:
    """Leave the small tensors in the graph and drop the others' file; gives its bytes and what it held."""
    import onnx
    from arch_export.encoder.precision import Precision
    from arch_export.graph.cpu_twin import write_cpu_twin

    path, data = model / "1" / "model.onnx", model / "1" / "model.onnx.data"
    graph = onnx.load(path)
    data.unlink(missing_ok=True)
    # A small model has no such file: its weights stand in the graph.
    onnx.save_model(graph, path, save_as_external_data=True, location=data.name, size_threshold=_SMALL)
    del graph
    stored = np.memmap(data, np.uint8, "r")
    tensors = []
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        if not tensor.external_data:
            continue
        entry = {one.key: one.value for one in tensor.external_data}
        offset, length, dtype = int(entry["offset"]), int(entry["length"]), _DTYPES[tensor.data_type]
        values = decode(stored[offset : offset + length].view(_NUMPY[dtype]), dtype)
        tensors.append((offset, length, dtype, float(values.mean()), float(values.std())))
    if target == "gpu":
        write_cpu_twin(path, Precision(precision)).replace(path.with_name(TWIN))
    size = len(stored)
    data.unlink()
    return size, tensors


def _gflop(family: str, config: dict[str, Any], seconds: float) -> float:
    """Of one clip, as PyTorch counts products and convolutions; nothing is computed for it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, AutoModel

    with torch.device("meta"), torch.no_grad():
        # The counter does not see into fused attention.
        model = AutoModel.from_config(AutoConfig.for_model(family, **config), attn_implementation="eager").eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, round(seconds * SAMPLE_RATE)))
    return float(counter.get_total_flops()) / 1e9
