"""`arch export`: from a checkpoint to a verified entry of a model repository, or nothing."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arch_export import logmel, parity, triton_config
from arch_export.checkpoints import Checkpoint, locate
from arch_export.encoder import (
    ClipEncoder,
    FeatureExtractor,
    Normalization,
    fold_weight_norm,
    load_encoder,
    read_feature_extractor,
    write_onnx,
)
from arch_export.errors import ExportError, ExportUsageError
from arch_export.front_end import replace_group_norm_convolution

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Gelu is one operator from here on; NVIDIA's containers have run it since 24.04.
OPSET = 20
LOGMEL = "logmel"

Step = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """What was installed: the model's name and folder, the facts in its configuration, and the parity measured."""

    name: str
    folder: Path
    facts: dict[str, str]
    parity: parity.Parity


@dataclass(frozen=True)
class _Subject:
    """What is exported, and what it is checked against."""

    name: str
    module: torch.nn.Module
    outputs: list[str]
    reference: parity.Reference
    extractor: FeatureExtractor
    source: str
    revision: str
    family: str


def export(
    reference: str,
    repository: Path,
    name: str | None = None,
    layers: bool = False,
    on_step: Step = lambda _: None,
) -> Exported:
    """Export a checkpoint as a Triton model: `<repository>/<name>/config.pbtxt` and `<name>/1/model.onnx`.

    The model is built and checked in a hidden folder beside the repository and then moved into place; an earlier model
    of that name is replaced in the same moment. On failure the repository stays as it was.

    Args:
        reference: an alias, a hub id, a checkpoint folder, or `logmel`.
        repository: the model repository; made if it is not there.
        name: the model's name; by default the alias, or the last part of the hub id or folder.
        layers: give the model a second output, `layer_embeddings`: the mean of every layer's hidden state.
        on_step: told what is being done, for a progress display.

    Raises:
        ExportUsageError: if there is no such checkpoint or it is not supported.
        ExportError: if the export failed or its embeddings differ from the original model's.
    """
    if name is not None:
        _check_name(name)
    if reference == LOGMEL and layers:
        raise ExportUsageError(f"{LOGMEL} has no layers")
    subject = _logmel() if reference == LOGMEL else _checkpoint(reference, layers, on_step)
    name = name or subject.name
    _check_name(name)
    try:
        repository.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=_workplace(repository)))
    except OSError as error:
        raise ExportError(f"cannot write to the repository {repository}: {error.strerror}") from error
    try:
        building.chmod(0o755)  # mkdtemp keeps others out; a server may run as another user
        exported = _build(subject, name, building, on_step)
        _move_into_place(building, repository / name)
    except OSError as error:
        raise ExportError(f"cannot write {repository / name}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return Exported(name, repository / name, exported[0], exported[1])


def _workplace(repository: Path) -> Path:
    """Where to build: beside the repository, because Triton takes hidden folders in it for models.

    Inside it if that is another file system or not writable: only within one can a folder be moved in one step.
    """
    beside = repository.resolve().parent
    same = beside.stat().st_dev == repository.stat().st_dev
    return beside if same and os.access(beside, os.W_OK | os.X_OK) else repository


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise ExportUsageError(f"{name!r} cannot name a model: use letters, digits, dots, dashes and underscores")


def _checkpoint(reference: str, layers: bool, on_step: Step) -> _Subject:
    on_step("finding the checkpoint")
    checkpoint = locate(reference)
    on_step("loading the checkpoint")
    extractor = read_feature_extractor(checkpoint.folder)
    encoder = load_encoder(checkpoint)
    return _Subject(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.name).lstrip("."),
        module=ClipEncoder(encoder, extractor.normalization, layers),
        outputs=["embedding", "layer_embeddings"] if layers else ["embedding"],
        reference=_torch_reference(checkpoint, encoder, extractor, layers),
        extractor=extractor,
        source=checkpoint.source,
        revision=checkpoint.revision,
        family=checkpoint.family,
    )


def _torch_reference(
    checkpoint: Checkpoint, encoder: torch.nn.Module, extractor: FeatureExtractor, layers: bool
) -> parity.Reference:
    """Embed as the ARCH reference does: transformers' own feature extractor, no attention mask, mean over frames."""
    from transformers import AutoFeatureExtractor

    try:
        features = AutoFeatureExtractor.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever the file at fault provokes
        reason = str(error).strip().splitlines()[0]
        raise ExportUsageError(f"the feature extractor of {checkpoint.source} cannot be loaded: {reason}") from error

    def embed(clip: NDArray[np.float32], length: int) -> NDArray[np.floating[Any]]:
        inputs = features(
            [clip],
            sampling_rate=extractor.sample_rate,
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            output = encoder(inputs["input_values"], output_hidden_states=layers)
        states = [output.last_hidden_state, *(output.hidden_states if layers else ())]
        return np.stack([frames[0].mean(dim=0).numpy() for frames in states])

    return embed


def _logmel() -> _Subject:
    def embed(clip: NDArray[np.float32], length: int) -> NDArray[np.floating[Any]]:
        return logmel.reference(np.pad(clip, (0, length - len(clip))))[None]

    return _Subject(
        name=LOGMEL,
        module=logmel.LogMel().eval(),
        outputs=["embedding"],
        reference=embed,
        extractor=FeatureExtractor(Normalization.NONE, logmel.SAMPLE_RATE),
        source=f"builtin:{LOGMEL}",
        revision=version("arch-bench"),
        family=LOGMEL,
    )


def _build(subject: _Subject, name: str, folder: Path, on_step: Step) -> tuple[dict[str, str], parity.Parity]:
    sample_rate = subject.extractor.sample_rate
    parameter_count = sum(parameter.numel() for parameter in subject.module.parameters())
    # The reference answers before the model is rewritten: a wrong rewrite must show.
    remembered = _Remembered(subject.reference)
    on_step("computing the reference embeddings")
    for seed, case in enumerate(parity.cases(sample_rate)):
        for clip in parity.test_clips(case, seed, sample_rate):
            embeddings, embedding_size = remembered(clip, case.length).shape
    fold_weight_norm(subject.module)
    replace_group_norm_convolution(subject.module)

    on_step("writing the ONNX graph")
    version_folder = folder / "1"
    version_folder.mkdir()
    write_onnx(subject.module, version_folder / "model.onnx", subject.outputs, sample_rate, OPSET)

    on_step("comparing the graph with the original")
    measured = parity.measure(version_folder / "model.onnx", remembered, sample_rate)
    # Written so that NaN fails too.
    if not (measured.max_relative_error <= parity.MAX_RELATIVE_ERROR):
        raise ExportError(
            f"{subject.source} is not installed: its embeddings differ from the original model's by "
            f"{measured.max_relative_error:.1e} (relative); fp32 allows {parity.MAX_RELATIVE_ERROR:.0e}"
        )
    if not (measured.max_batch_effect <= parity.MAX_RELATIVE_ERROR):
        raise ExportError(
            f"{subject.source} is not installed: an embedding moves by {measured.max_batch_effect:.1e} (relative) "
            f"with its batch mates; fp32 allows {parity.MAX_RELATIVE_ERROR:.0e}"
        )
    facts = {
        "source": subject.source,
        "revision": subject.revision,
        "family": subject.family,
        "precision": "fp32",
        "sample_rate": str(sample_rate),
        "normalization": str(subject.extractor.normalization),
        "embedding_size": str(embedding_size),
        "layer_embeddings": str(embeddings - 1),
        "parameter_count": str(parameter_count),
        "opset": str(OPSET),
        "content_hash": content_hash(version_folder),
        "parity_max_relative_error": f"{measured.max_relative_error:.3e}",
        "parity_min_cosine": f"{measured.min_cosine:.9f}",
        "parity_max_batch_effect": f"{measured.max_batch_effect:.3e}",
        "parity_clips": str(measured.clips),
        "exported_by": f"arch-bench {version('arch-bench')}, torch {version('torch')}, "
        f"transformers {version('transformers')}, onnxruntime {version('onnxruntime')}",
    }
    shapes = {"embedding": [embedding_size], "layer_embeddings": [embeddings - 1, embedding_size]}
    outputs = {output: shapes[output] for output in subject.outputs}
    config = triton_config.model_config(name, outputs, sample_rate, facts)
    (folder / "config.pbtxt").write_text(triton_config.as_text(config), encoding="utf-8")
    return facts, measured


class _Remembered:
    """A reference whose answers are kept: it is slow, and the model behind it changes."""

    def __init__(self, reference: parity.Reference) -> None:
        self._reference = reference
        self._known: dict[tuple[bytes, int], NDArray[np.floating[Any]]] = {}

    def __call__(self, clip: NDArray[np.float32], length: int) -> NDArray[np.floating[Any]]:
        key = (clip.tobytes(), length)
        if key not in self._known:
            self._known[key] = self._reference(clip, length)
        return self._known[key]


def content_hash(folder: Path) -> str:
    """`sha256:<hex>` over the names and contents of a model version's files."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        with file.open("rb") as stream:
            digest.update(file.name.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"


def _move_into_place(building: Path, target: Path) -> None:
    if not target.exists():
        building.rename(target)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=building.parent))
    target.rename(retired / target.name)
    try:
        building.rename(target)
    except OSError:
        (retired / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)
