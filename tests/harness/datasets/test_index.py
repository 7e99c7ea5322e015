"""An index as large as all twelve datasets together: bounded memory, every clip in every fold exactly once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from arch_harness.datasets import load_dataset
from arch_harness.datasets.catalog import DECLARATIONS

CLIPS = 230_000
# A process that has imported everything needs about 110 MiB before it opens the index.
MOST_MIB = 400

_LOAD = """
import sys
from pathlib import Path
from arch_harness.datasets import load_dataset
from arch_harness.datasets.catalog import DECLARATIONS
load_dataset(DECLARATIONS["us8k"], Path(sys.argv[1])).fingerprint
# Not ru_maxrss, which remembers the process that this one was forked from.
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""


@pytest.mark.slow
def test_230_000_clips(tmp_path: Path) -> None:
    table = tmp_path / "metadata" / "UrbanSound8K.csv"
    table.parent.mkdir()
    with table.open("w") as file:
        file.write("slice_file_name,fsID,start,end,salience,fold,classID,class\n")
        for clip in range(CLIPS):
            file.write(f"{clip}-0-0-0.wav,{clip},0.0,4.0,1,{clip % 10 + 1},{clip % 7},x\n")
    (tmp_path / "audio" / "fold1").mkdir(parents=True)
    (tmp_path / "audio" / "fold1" / "0-0-0-0.wav").touch()
    dataset = load_dataset(DECLARATIONS["us8k"], tmp_path)
    assert len(dataset.clips) == CLIPS
    for fold in dataset.folds:
        assert (len(fold.train), len(fold.validation), len(fold.test)) == (165_600, 41_400, 23_000)
        assert np.bincount(np.concatenate([fold.train, fold.validation, fold.test])).tolist() == [1] * CLIPS
    first = dataset.fingerprint
    (tmp_path / "audio" / "fold1" / "0-0-0-0.wav").write_bytes(b"changed")
    assert load_dataset(DECLARATIONS["us8k"], tmp_path).fingerprint != first
    child = subprocess.run([sys.executable, "-c", _LOAD, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(child.stdout) < MOST_MIB
