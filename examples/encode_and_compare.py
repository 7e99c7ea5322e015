"""From checkpoints to a table, and two runs compared, with `import arch_bench` alone.

python examples/encode_and_compare.py                    # on synthesised clips, a minute or two on a CPU
python examples/encode_and_compare.py path/to/my/clips   # a folder of one's own: one folder a class, or a manifest
"""

from __future__ import annotations

import argparse
from pathlib import Path

import arch_bench


def random_checkpoint(folder: Path) -> Path:
    """A small HuBERT with random weights, so that nothing is downloaded; a hub id or your own folder does as well."""
    import torch
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)  # the same weights each time: what is computed once is found in the store later
    config = HubertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, conv_dim=(32,) * 7
    )
    HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def main() -> None:
    """Export two encoders, bench them in two ways, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="?", type=Path, help="your own data; by default clips are synthesised")
    parser.add_argument("--work", type=Path, default=Path("example"), help="everything that is written goes here")
    arguments = parser.parse_args()
    work: Path = arguments.work

    # 1. Data: a folder of your own, or an imitation of ESC-50, whose scores say nothing.
    clips = arguments.clips
    if clips is None:
        clips = f"esc50={work / 'clips'}"
        if not (work / "clips").exists():
            arch_bench.data.imitate("esc50", work / "clips", clips=100, quirks=False)

    # 2. Each checkpoint becomes a verified entry of a model repository.
    repository = work / "models"
    models = []
    for checkpoint in ("logmel", random_checkpoint(work / "tiny-hubert")):
        exported = arch_bench.export(checkpoint, repository)
        print(f"{exported.name}: within {exported.parity.max_relative_error:.0e} of the original")
        models.append(exported.name)

    # 3. One Triton serves both runs: the audio in gRPC requests, then through shared memory.
    runs = {}
    with arch_bench.serve(repository, models, grpc_port=0, http_port=0, metrics_port=0) as server:
        for transport in ("grpc", "shared-memory"):
            runs[transport] = arch_bench.bench(
                clips,
                servers=[server.grpc_url],
                models=models,
                transport=transport,
                output=work / transport,
                cache=work / "cache",
                # Else the second run finds the embeddings of the first in the store, and measures nothing.
                recompute=True,
            )

    # 4. A data frame, with one row for each model, dataset and probe.
    for transport, run in runs.items():
        print(f"\n{transport}: {run.report}")
        print(run.to_pandas()[["model", "dataset", "score", "chance", "clips_per_s", "p95_ms"]].to_string(index=False))

    # 5. The embeddings themselves, with their labels, for whatever else is to be done with them.
    dataset = runs["grpc"].to_pandas()["dataset"].iloc[0]
    found = runs["grpc"].embeddings("tiny-hubert", dataset)
    print(f"\n{found.array.shape[0]} embeddings of {found.array.shape[1]} dimensions, {len(found.classes)} classes")

    # 6. Two runs compared: the same embeddings by another way, so no score should move by more than noise. A hundred
    # clips are too few to judge a speed by.
    for pair in runs["shared-memory"].compare(runs["grpc"]).pairs:
        score, speed = pair.scores[0], pair.figures[0]
        print(
            f"{pair.name}: {100 * score.difference:+.1f} points ({'more' if score.more_than_noise else 'no more'} than "
            f"noise), {speed.value:.0f} clips/s instead of {speed.baseline_value:.0f}"
        )


if __name__ == "__main__":
    main()
