"""The model's `README.md`: what stands in its `config.pbtxt`, in words, and how it is called.

Triton and `arch serve` look for `config.pbtxt` and numbered folders only, so the page lies beside them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from arch_export.checkpoint.aliases import LOGMEL
from arch_export.encoder.options import Lengths
from arch_export.encoder.precision import LIMITS, Precision, Target
from arch_export.verify import parity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tritonclient.grpc import model_config_pb2 as triton

MODEL_CARD = "README.md"

_PADDING = {
    Lengths.PADDED: "counts as audio, as in the ARCH protocol: the embedding depends on the length that a clip is "
    "padded to, so pad the clips of a comparison to one length",
    Lengths.EXACT: "changes nothing: only the first `num_samples` samples of a clip count",
}
_NORMALIZATION = {
    "none": "none",
    "whole": "in the graph: zero mean and unit variance over the whole clip, padding included",
    "valid": "in the graph: zero mean and unit variance over the first `num_samples` samples",
}


def model_card(config: triton.ModelConfig) -> str:
    """The page in Markdown, of a configuration that `triton_config.model_config` made."""
    facts = {key: value.string_value for key, value in config.parameters.items()}
    parts = (
        _title(config, facts),
        _origin(facts),
        _checked(facts),
        _input(config, facts),
        _call(config, facts),
    )
    return "\n\n".join(parts) + "\n"


def _title(config: triton.ModelConfig, facts: dict[str, str]) -> str:
    what = "Log-mel statistics of clips" if facts["family"] == LOGMEL else "An audio encoder"
    text = f"# {config.name}\n\n{what} for NVIDIA Triton, written by `arch export`: a clip in, its embedding out."
    if missed := facts.get("parity_missed"):
        text += f"\n\n**It misses the limits of its precision, and was installed with `--force`:** {missed}."
    return text


def _origin(facts: dict[str, str]) -> str:
    licence = facts.get("licence")
    cut = facts.get("cut_after_layer")
    of_checkpoint = {
        "licence of the checkpoint": _code(licence) if licence else "not stated where it was read from",
        "parameters": f"{int(facts['parameter_count']):,}, what is cut off included",
        "layers": f"cut after layer {cut}, whose mean hidden state is the embedding" if cut else "all",
    }
    rows = {
        "source": _code(facts["source"]),
        "revision": _code(facts["revision"]),
        "family": _code(facts["family"]),
        **({} if facts["family"] == LOGMEL else of_checkpoint),
        "embedding": f"{facts['embedding_size']} values",
        "normalisation of the waveform": _NORMALIZATION[facts["normalization"]],
        "precision": f"{_code(facts['precision'])}, configured for the target {_code(facts['target'])}",
        "ONNX opset": facts["opset"],
        "content": _code(facts["content_hash"]),
        "exported by": facts["exported_by"],
    }
    return "## What it is\n\n" + _table(("", ""), list(rows.items()))


def _checked(facts: dict[str, str]) -> str:
    limits = LIMITS[Precision(facts["precision"])]
    cases = parity.cases(int(facts["sample_rate"]))
    seconds = [valid / int(facts["sample_rate"]) for case in cases for valid in case.valid]
    original = "an independent computation in NumPy" if facts["family"] == LOGMEL else "the checkpoint in transformers"
    engine = ""
    if facts["target"] == Target.GPU:
        engine = ", in a form of the graph for CPUs"
    elif facts["precision"] == Precision.BF16:
        engine = " by OpenVINO"
    table = _table(
        ("", "measured", "allowed"),
        [
            ("mean cosine", facts["parity_mean_cosine"], f"at least {limits.mean_cosine:.8g}"),
            ("the worst clip's cosine", facts["parity_min_cosine"], f"at least {limits.min_cosine:.8g}"),
            (
                "the largest relative error",
                facts["parity_max_relative_error"],
                f"at most {limits.max_relative_error:g}",
            ),
            (
                "how far the others in its batch move a clip, at most (relative)",
                facts["parity_max_batch_effect"],
                f"at most {limits.max_batch_effect:g}, or served one at a time",
            ),
        ],
    )
    return (
        f"## How close it is to the original\n\nCompared on a CPU{engine} with {original}, fp32, on "
        f"{facts['parity_clips']} synthesised clips of {min(seconds):.1f} to {max(seconds):.1f} s (tones in noise, "
        "vowels and pauses, chords, near silence with clicks; as recorded, almost inaudible, off-centre), each alone "
        f"and in a batch of up to {max(len(case.valid) for case in cases)}.\n\n{table}\n\n"
        "How good the embeddings are for a task is another question, which `arch bench` answers; the cards of `arch "
        "publish` say where a model was benched."
    )


def _input(config: triton.ModelConfig, facts: dict[str, str]) -> str:
    rate, field = int(facts["sample_rate"]), int(facts["receptive_field"])
    return "\n".join(
        (
            "## What a clip must be\n",
            f"- Mono, {rate} Hz, values in [-1, 1]. Nothing is resampled here.",
            f"- At least {field} samples ({1000 * field / rate:.4g} ms), the receptive field of one frame; pad a "
            "shorter one with zeros at its end. The graph has no longest length; memory sets one.",
            f"- The clips of a request are padded with zeros at their ends to one length. Padding "
            f"{_PADDING[Lengths(facts['lengths'])]}.",
            f"- {config.max_batch_size} {'clip' if config.max_batch_size == 1 else 'clips'} a request at most.",
        )
    )


def _call(config: triton.ModelConfig, facts: dict[str, str]) -> str:
    rate = int(facts["sample_rate"])
    rows = [
        ("`waveform`", "in", "FP32", "[batch, samples]", "the clips"),
        ("`num_samples`", "in", "INT64", "[batch, 1]", "how many samples of each are audio, not padding"),
    ]
    for output in config.output:
        meaning = "one vector a clip"
        if output.name == "layer_embeddings":
            meaning = "the mean over frames of what enters the first layer, then of what leaves each"
        shape = ", ".join(["batch", *map(str, output.dims)])
        rows.append((f"`{output.name}`", "out", "FP32", f"[{shape}]", meaning))
    seconds = max(1, math.ceil(int(facts["receptive_field"]) / rate))
    return (
        "## How it is called\n\n"
        + _table(("tensor", "", "type", "shape", "meaning"), rows)
        + f"""

```python
import numpy as np
import tritonclient.grpc as grpcclient  # pip install 'tritonclient[grpc]'

clip = np.zeros({seconds * rate}, dtype=np.float32)  # {seconds} s, mono, {rate} Hz, in [-1, 1]

waveform = grpcclient.InferInput("waveform", [1, len(clip)], "FP32")
waveform.set_data_from_numpy(clip[None])
num_samples = grpcclient.InferInput("num_samples", [1, 1], "INT64")
num_samples.set_data_from_numpy(np.array([[len(clip)]], dtype=np.int64))

client = grpcclient.InferenceServerClient("localhost:8001")
answer = client.infer("{config.name}", [waveform, num_samples])
embedding = answer.as_numpy("embedding")[0]  # FP32 [{facts["embedding_size"]}]
```"""
    )


def _code(text: str) -> str:
    """As code in a cell of a table, in one line, whatever a checkpoint's folder is called."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "\\|").split()) + "`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
