"""All 16 checkpoints of the ARCH tables: do they export, verify, load in Triton and answer, and what does that take?

    python benchmarks/export_table.py                      # every checkpoint that has no row yet
    python benchmarks/export_table.py hubert-large         # this one
    python benchmarks/export_table.py hubert-base -- --lengths exact

The architectures are real (configurations as published; those of ALM, which are not, as the model that they continue),
the weights are random, so nothing is downloaded. Rows are kept in build/export_table.json as they come; a row that is
there is not made again unless it is named. What follows `--` goes to `arch export`.

Peak memory is that of the whole `arch export` process (VmHWM), less what the same process has resident once torch,
transformers and ONNX Runtime are imported; beside it, as a multiple of the fp32 weights.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from arch_export.checkpoint.aliases import ALIASES
from arch_serve.server import LocalServer
from rich.console import Console
from rich.table import Table
from tritonclient.grpc import InferenceServerClient, InferInput

BUILD = Path("build")
ROWS = BUILD / "export_table.json"
SECONDS = 5
SAMPLE_RATE = 16000

LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
XLARGE = LARGE | {"hidden_size": 1280, "num_hidden_layers": 48, "intermediate_size": 5120}
# Base is what transformers takes by default; (family, what differs from it).
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-base": ("wav2vec2", {}),
    "wavlm-base": ("wavlm", {}),
    "wavlm-base-plus": ("wavlm", {}),
    "hubert-base": ("hubert", {}),
    "data2vec-base": ("data2vec-audio", {}),
    "wav2vec2-base-as": ("wav2vec2", {}),
    "hubert-base-as": ("hubert", {}),
    "wav2vec2-large-robust": ("wav2vec2", LARGE),
    "xls-r-300m": ("wav2vec2", LARGE),
    "wavlm-large": ("wavlm", LARGE | {"conv_bias": False}),
    "hubert-large": ("hubert", LARGE),
    "data2vec-large": (
        "data2vec-audio",
        {key: LARGE[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")},
    ),
    "wav2vec2-large-as": ("wav2vec2", LARGE),
    "hubert-large-as": ("hubert", LARGE),
    "xls-r-1b": ("wav2vec2", XLARGE),
    "hubert-xlarge": ("hubert", XLARGE),
}

_WRITE = "import json, sys; from pathlib import Path; from arch_export.checkpoint.random_weights import write_random; "
_WRITE += "write_random(Path(sys.argv[1]), sys.argv[2], **json.loads(sys.argv[3]))"
_IMPORTS = "import onnxruntime, onnxscript, torch, arch_export.pipeline, pathlib; "
_IMPORTS += "from transformers import AutoModel, AutoFeatureExtractor, HubertModel; "
_IMPORTS += "lines = pathlib.Path('/proc/self/status').read_text().splitlines(); "
_IMPORTS += "print(next(1024 * int(line.split()[1]) for line in lines if line.startswith('VmRSS')))"


def memory(pid: int, key: str) -> int:
    """`key` of /proc/<pid>/status in bytes; 0 once the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith(key)), 0)


def import_memory() -> int:
    """Bytes resident in a process that has imported what an export imports."""
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True)
    return int(done.stdout)


def run_watched(command: list[str]) -> tuple[float, int]:
    """Run `command`; gives its seconds and its peak resident memory in bytes.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    start = time.perf_counter()
    peak = 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, memory(process.pid, "VmHWM"))
        time.sleep(0.05)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - start, peak


def ask(repository: Path, model: str) -> tuple[dict[str, str], float]:
    """Load `model` in Triton and embed one clip; gives the facts of its configuration and the seconds of the answer."""
    clip = (0.1 * np.random.default_rng(0).standard_normal((1, SECONDS * SAMPLE_RATE))).astype(np.float32)
    with LocalServer(repository, [model], grpc_port=0, http_port=0, metrics_port=0) as server:
        for status in server.models:
            if not status.ready:
                raise SystemExit(f"{status.name} does not load on this machine: {status.short_reason}")
        client = InferenceServerClient(server.grpc_url)
        config = client.get_model_config(model, as_json=True)["config"]
        inputs = [InferInput("waveform", list(clip.shape), "FP32"), InferInput("num_samples", [1, 1], "INT64")]
        inputs[0].set_data_from_numpy(clip)
        inputs[1].set_data_from_numpy(np.array([[clip.shape[1]]]))
        client.infer(model, inputs)
        start = time.perf_counter()
        embedding = client.infer(model, inputs).as_numpy("embedding")
        seconds = time.perf_counter() - start
    facts = {key: value["string_value"] for key, value in config["parameters"].items()}
    if embedding.shape != (1, int(facts["embedding_size"])) or not np.isfinite(embedding).all():
        raise SystemExit(f"{model} answers with {embedding.shape}, not with a finite embedding")
    return facts, seconds


def measure(alias: str, options: list[str]) -> dict[str, Any]:
    """Export `alias` from random weights, load it in Triton and ask it once."""
    family, config = ARCHITECTURES[alias]
    checkpoint, repository = BUILD / "checkpoints" / alias, BUILD / "repository"
    settings = config | {"return_attention_mask": config.get("feat_extract_norm") == "layer"}
    try:
        subprocess.run([sys.executable, "-c", _WRITE, checkpoint, family, json.dumps(settings)], check=True)
        shutil.rmtree(repository, ignore_errors=True)
        command = [sys.executable, "-m", "arch_bench", "export", str(checkpoint), "--repository", str(repository)]
        seconds, peak = run_watched([*command, *options])
        (model,) = repository.iterdir()
        facts, answer = ask(repository, model.name)
        size = sum(file.stat().st_size for file in (model / "1").iterdir())
    finally:
        shutil.rmtree(BUILD / "checkpoints", ignore_errors=True)
        shutil.rmtree(repository, ignore_errors=True)
    return {
        "parameters": int(facts["parameter_count"]),
        "bytes": size,
        "seconds": seconds,
        "peak": peak - import_memory(),
        "relative_error": float(facts["parity_max_relative_error"]),
        "batch_effect": float(facts["parity_max_batch_effect"]),
        "answer_seconds": answer,
    }


def table(rows: dict[str, dict[str, Any]]) -> Table:
    """The rows as a table."""
    result = Table(title="arch export, random weights at real size", title_justify="left")
    columns = ("checkpoint", "parameters", "on disk", "export", "peak memory", "of weights", "relative error", "answer")
    for column in columns:
        result.add_column(column, justify="left" if column == "checkpoint" else "right")
    for name, row in rows.items():
        result.add_row(
            name,
            f"{row['parameters'] / 1e6:.0f} M",
            f"{row['bytes'] / 1e9:.2f} GB",
            f"{row['seconds']:.0f} s",
            f"{row['peak'] / 1e9:.2f} GB",
            f"{row['peak'] / (4 * row['parameters']):.1f}x",
            f"{row['relative_error']:.1e}",
            f"{row['answer_seconds']:.2f} s",
        )
    return result


def main() -> None:
    """Make the rows that are missing, or those named, and print the table."""
    arguments, options = sys.argv[1:], []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, options = arguments[:cut], arguments[cut + 1 :]
    if unknown := set(arguments) - set(ARCHITECTURES):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(ALIASES)}")
    rows: dict[str, dict[str, Any]] = json.loads(ROWS.read_text()) if ROWS.is_file() else {}
    suffix = " ".join(["", *options])
    for alias in arguments or [alias for alias in ALIASES if alias + suffix not in rows]:
        rows[alias + suffix] = measure(alias, options)
        BUILD.mkdir(exist_ok=True)
        ROWS.write_text(json.dumps(rows, indent=1))
    order = [f"{alias}{rest}" for alias in ALIASES for rest in sorted({key[len(alias) :] for key in rows})]
    Console(width=120).print(table({key: rows[key] for key in order if key in rows}))


if __name__ == "__main__":
    main()
