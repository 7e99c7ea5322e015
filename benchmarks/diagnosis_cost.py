"""What looking for what is wrong with scores costs beside the scores: seconds a dataset, and seconds a pair.

Files and answers are those of a dataset on this disk and a model that is exported; embeddings are made up, of as many
clips and dimensions as are asked for, and nearly all of their cosines low: the least that a search can have.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import arch_bench
import numpy as np
from arch_harness.datasets import Clip, Dataset, Fold
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.datasets.registry import open_dataset
from arch_harness.diagnosis.answers import look_at_answers
from arch_harness.diagnosis.embeddings import look_at_embeddings
from arch_harness.diagnosis.files import look_at_files
from arch_harness.results.predictions import Predictions
from arch_harness.triton.server import Server
from rich.console import Console


def made_up(clips: int, tests: int) -> tuple[Dataset, Predictions]:
    """A dataset of no files, of which the last clips test, and what a probe made of these."""
    order, none = np.arange(clips), np.array([], dtype=np.int64)
    fold = Fold("only", order[:-tests], none, order[-tests:])
    listed = [Clip(f"{index}.wav", ("0",), "") for index in range(clips)]
    dataset = Dataset(DECLARATIONS["demo"], Path(), listed, ["0", "1"], order % 2, [fold])
    zeros = np.zeros(tests, dtype=np.int64)
    values, truth = zeros.astype(np.float32), np.zeros((tests, 0), dtype=np.bool_)
    return dataset, Predictions("accuracy", fold.test, zeros, zeros, values, truth)


def main() -> None:
    """Print a line for each thing that is looked at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", help="as arch bench takes it; without it, only embeddings are looked at")
    parser.add_argument("--model", default="logmel")
    parser.add_argument("--repository", default="model_repository")
    parser.add_argument("--clips", type=int, nargs="+", default=[2000, 10_000, 50_000])
    parser.add_argument("--dimensions", type=int, default=768)
    arguments = parser.parse_args()
    console = Console(highlight=False)

    def timed(what: str, look: Callable[..., object], *given: object) -> None:
        started = time.perf_counter()
        look(*given)
        console.print(f"{what}: {time.perf_counter() - started:.2f} s")

    random = np.random.default_rng(0)
    for clips in arguments.clips:
        embeddings = random.standard_normal((clips, arguments.dimensions), dtype=np.float32)
        dataset, predictions = made_up(clips, clips // 5)
        there = np.ones(clips, dtype=np.bool_)
        what = f"embeddings of {clips:,} clips x {arguments.dimensions}, a fifth of which test"
        timed(what, look_at_embeddings, dataset, embeddings, there, [frozenset()], predictions)
    if arguments.dataset is None:
        return
    dataset = open_dataset(arguments.dataset, Path())
    timed(f"files of {len(dataset.clips):,} clips", look_at_files, dataset)
    with arch_bench.serve(arguments.repository, [arguments.model], grpc_port=0, http_port=0, metrics_port=0) as running:
        (endpoint,) = arch_bench.endpoints(running.grpc_url)
        with Server(endpoint) as server:
            (model,) = server.models([arguments.model])
            embeddings = random.standard_normal((len(dataset.clips), model.embedding_size), dtype=np.float32)
            there = np.ones(len(dataset.clips), dtype=np.bool_)
            timed("answers", look_at_answers, server, model, dataset, embeddings, there)


if __name__ == "__main__":
    main()
