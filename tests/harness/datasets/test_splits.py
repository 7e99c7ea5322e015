"""Split membership of each of the twelve, against lists worked out by hand.

The random draws follow from NumPy's published permutations for seed 42, which scikit-learn's train_test_split takes:
the first ceil(share * n) places are held out, the others kept, both in this order.

    2: 1 0                    4: 1 3 0 2                5: 1 4 2 0 3
    8: 1 5 0 7 2 4 3 6       10: 8 1 5 0 7 2 9 4 3 6
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from arch_harness.datasets import Dataset, load_dataset
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.datasets.catalog.mtt import TAGS
from arch_harness.datasets.dataset import with_strict_split
from numpy.typing import NDArray
from support.made_data import touch

Parts = dict[str, tuple[list[str], list[str], list[str]]]


def write(folder: Path, path: str, *lines: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text("\n".join(lines) + "\n")


def load(identifier: str, folder: Path, strict: bool = False) -> Dataset:
    declaration = DECLARATIONS[identifier]
    return load_dataset(with_strict_split(declaration) if strict else declaration, folder)


def parts(dataset: Dataset) -> Parts:
    """Fold -> stems of its training, validation and test clips."""

    def stems(indices: NDArray[np.int64]) -> list[str]:
        return [Path(dataset.clips[index].path).stem for index in indices]

    return {fold.name: (stems(fold.train), stems(fold.validation), stems(fold.test)) for fold in dataset.folds}


def test_esc50(tmp_path: Path) -> None:
    rows = ["a.wav,2,10,x", "b.wav,1,2,x", "c.wav,2,2,x", "d.wav,3,10,x", "e.wav,1,10,x", "f.wav,3,2,x"]
    write(tmp_path, "meta/esc50.csv", "filename,fold,target,category", *rows)
    touch(tmp_path, *(f"audio/{name}.wav" for name in "abcdef"))
    dataset = load("esc50", tmp_path)
    assert dataset.classes == ["2", "10"]
    assert dataset.targets.tolist() == [1, 0, 0, 1, 1, 0]
    # Fold 2 comes first in the table: what is left for test fold 1 is a c (2), d f (3); for 3 it is a c (2), b e (1).
    assert parts(dataset) == {
        "1": (["f", "a", "d"], ["c"], ["b", "e"]),
        "2": (["f", "b", "d"], ["e"], ["a", "c"]),
        "3": (["e", "a", "b"], ["c"], ["d", "f"]),
    }
    strict = load("esc50", tmp_path, strict=True)
    assert strict.id == "esc50@strict"
    assert parts(strict) == {
        "1": (["d", "f"], ["a", "c"], ["b", "e"]),
        "2": (["b", "e"], ["d", "f"], ["a", "c"]),
        "3": (["a", "c"], ["b", "e"], ["d", "f"]),
    }


def test_us8k(tmp_path: Path) -> None:
    folds = {"a": 10, "b": 2, "c": 1, "d": 10, "e": 2, "f": 1}
    header = "slice_file_name,fsID,start,end,salience,fold,classID,class"
    rows = [f"{name}.wav,7,0,1,1,{fold},{place % 3},x" for place, (name, fold) in enumerate(folds.items())]
    write(tmp_path, "metadata/UrbanSound8K.csv", header, *rows)
    touch(tmp_path, *(f"audio/fold{fold}/{name}.wav" for name, fold in folds.items()))
    dataset = load("us8k", tmp_path)
    assert dataset.clips[0].path == "audio/fold10/a.wav"
    # Test folds by number; the rest in the order 10 2 1 of the table.
    assert list(parts(dataset).items()) == [
        ("1", (["e", "a", "b"], ["d"], ["c", "f"])),
        ("2", (["f", "a", "c"], ["d"], ["b", "e"])),
        ("10", (["f", "b", "c"], ["e"], ["a", "d"])),
    ]
    assert parts(load("us8k", tmp_path, strict=True)) == {
        "1": (["a", "d"], ["b", "e"], ["c", "f"]),
        "2": (["c", "f"], ["a", "d"], ["b", "e"]),
        "10": (["b", "e"], ["c", "f"], ["a", "d"]),
    }


def test_fsd50k(tmp_path: Path) -> None:
    development = ['100,"Dog,Animal","m,n",train', "101,Cat,m,val", '102,"Cat,Animal","m,n",train']
    write(tmp_path, "FSD50K.ground_truth/dev.csv", "fname,labels,mids,split", *development)
    write(tmp_path, "FSD50K.ground_truth/eval.csv", "fname,labels,mids", "99,Dog,m", '98,"Bell,Cat","m,n"')
    touch(tmp_path, *(f"FSD50K.dev_audio/{name}.wav" for name in (100, 101, 102)))
    touch(tmp_path, "FSD50K.eval_audio/99.wav", "FSD50K.eval_audio/98.wav")
    dataset = load("fsd50k", tmp_path)
    assert parts(dataset) == {"official": (["100", "102"], ["101"], ["99", "98"])}
    assert dataset.classes == ["Animal", "Bell", "Cat", "Dog"]
    assert dataset.targets.dtype == np.bool_
    assert dataset.targets.astype(int).tolist() == [
        [1, 0, 0, 1],
        [0, 0, 1, 0],
        [1, 0, 1, 0],
        [0, 0, 0, 1],
        [0, 1, 1, 0],
    ]
    assert load("fsd50k", tmp_path, strict=True).id == "fsd50k"


def test_vivae(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(
            f"full_set/S{speaker}_{emotion}_low_01.wav"
            for speaker in ("01", "02", "11")
            for emotion in ("anger", "fear")
        ),
    )
    touch(tmp_path, "core_set/S01_anger_low_01.wav")
    speakers = {speaker: [f"S{speaker}_anger_low_01", f"S{speaker}_fear_low_01"] for speaker in ("01", "02", "11")}
    dataset = load("vivae", tmp_path)
    assert parts(dataset) == {
        "01": (speakers["11"], speakers["02"], speakers["01"]),
        "02": (speakers["01"], speakers["11"], speakers["02"]),
        "11": (speakers["02"], speakers["01"], speakers["11"]),
    }
    assert dataset.unused == {"core_set/S01_anger_low_01.wav"}


def test_fma_small(tmp_path: Path) -> None:
    header = [",album,set,set,track", ",title,split,subset,genre_top", "track_id,,,,"]
    splits = ["training"] * 7 + ["validation", "test", "test"]
    rows = [f'{1000 * place + 5},"One, two",{splits[place]},small,{("Rock", "Folk")[place % 2]}' for place in range(10)]
    rows.insert(3, "77,x,training,small,")  # no genre, though it has a file
    rows.insert(5, "88,x,training,medium,Blues")  # no file here; its genre counts all the same
    rows.insert(6, "99,x,training,small,Jazz")  # of this subset, but its file is lost
    write(tmp_path, "fma_metadata/tracks.csv", *header, *rows)
    touch(tmp_path, *(f"fma_small/{place:03d}/{place:03d}005.mp3" for place in range(10)), "fma_small/000/000077.mp3")
    dataset = load("fma_small", tmp_path)
    assert dataset.classes == ["Blues", "Folk", "Jazz", "Rock"]
    assert dataset.targets.tolist() == [3, 1] * 5
    track = [f"{place:03d}005" for place in range(10)]
    # Held out: 8 and 1, in this order; of these two the second validates.
    assert parts(dataset) == {"random": ([track[place] for place in (5, 0, 7, 2, 9, 4, 3, 6)], [track[1]], [track[8]])}
    assert dataset.unused == {"fma_small/000/000077.mp3"}
    assert any(note.startswith("1 tracks of the small subset have no file") for note in dataset.notes)
    assert parts(load("fma_small", tmp_path, strict=True)) == {"official": (track[:7], [track[7]], track[8:])}


def test_mtt(tmp_path: Path) -> None:
    def row(clip: int, *tags: str) -> str:
        return "\t".join([str(clip), *(str(int(tag in tags)) for tag in (*TAGS, "rare")), f"a/{clip}.mp3"])

    rows = [row(2, "guitar"), row(6, "rare"), row(10, "slow", "choral"), row(11, "piano"), row(25, "guitar", "rare")]
    write(tmp_path, "annotations_final.csv", "\t".join(["clip_id", *TAGS, "rare", "mp3_path"]), *rows)
    write(tmp_path, "train_gt_mtt.tsv", "25\t[1 0]", "2\t[1 0]", "6\t[0 0]")
    write(tmp_path, "val_gt_mtt.tsv", "11\t[0 1]")
    write(tmp_path, "test_gt_mtt.tsv", "10\t[0 1]")
    touch(tmp_path, *(f"a/{clip}.mp3" for clip in (2, 6, 10, 11, 25)))
    dataset = load("mtt", tmp_path)
    assert parts(dataset) == {"official": (["25", "2"], ["11"], ["10"])}
    assert dataset.classes == sorted(TAGS)
    assert len(TAGS) == len(set(TAGS)) == 50
    tagged = [{dataset.classes[tag] for tag in np.flatnonzero(row)} for row in dataset.targets]
    assert tagged == [{"guitar"}, {"guitar"}, {"piano"}, {"slow", "choral"}]
    assert dataset.unused == {"a/6.mp3"}


def test_irmas(tmp_path: Path) -> None:
    train = ["cel/b__1.wav", "cel/b__2.wav", "cla/c__1.wav", "gac/z__1.wav", "voi/a__1.wav"]
    touch(tmp_path, *(f"IRMAS-TrainingData/{name}" for name in train))
    tests = ["Part1/Part1/t1", "Part3/Part3/t3"]
    touch(tmp_path, *(f"IRMAS-TestingData-{name}.wav" for name in tests))
    write(tmp_path, f"IRMAS-TestingData-{tests[0]}.txt", "voi\t", "gac\t")
    write(tmp_path, f"IRMAS-TestingData-{tests[1]}.txt", "pia")
    dataset = load("irmas", tmp_path)
    # In order: 0 cel/b__1, 1 cel/b__2, 2 cla/c__1, 3 gac/z__1, 4 voi/a__1; the draw of five holds out 1, keeps 4 2 0 3.
    assert parts(dataset) == {"official": (["a__1", "c__1", "b__1", "z__1"], ["b__2"], ["t1", "t3"])}
    assert len(dataset.classes) == 11
    assert [dataset.clips[index].labels for index in dataset.folds[0].test] == [("voi", "gac"), ("pia",)]
    # Recordings in order a b c z; of four, the draw holds out place 1: both excerpts of b.
    assert parts(load("irmas", tmp_path, strict=True)) == {
        "official": (["c__1", "z__1", "a__1"], ["b__1", "b__2"], ["t1", "t3"])
    }


def test_medley_solos_db(tmp_path: Path) -> None:
    rows = [("test", 7, "u1"), ("training", 0, "u2"), ("validation", 7, "u3"), ("training", 7, "u4")]
    table = [f"{subset},x,{instrument},0,{uuid}" for subset, instrument, uuid in rows]
    write(tmp_path, "Medley-solos-DB_metadata.csv", "subset,instrument,instrument_id,song_id,uuid4", *table)
    names = [f"Medley-solos-DB_{subset}-{instrument}_{uuid}" for subset, instrument, uuid in rows]
    touch(tmp_path, *(f"audio/{name}.wav" for name in names))
    dataset = load("medley_solos_db", tmp_path)
    assert parts(dataset) == {"official": ([names[1], names[3]], [names[2]], [names[0]])}
    assert dataset.classes == ["0", "7"]


def test_ravdess(tmp_path: Path) -> None:
    actors = (1, 2, 5, 6, 7, 12, 13, 18, 19, 24)
    names = [f"03-01-0{place % 8 + 1}-01-01-01-{actor:02d}" for place, actor in enumerate(actors)]
    touch(tmp_path, *(f"Actor_{name[-2:]}/{name}.wav" for name in names), "Actor_01/03-02-01-01-01-01-01.wav")
    dataset = load("ravdess", tmp_path)
    # Test 8 and 1; the rest is 5 0 7 2 9 4 3 6, of whose places 1 and 5 validate and 0 7 2 4 3 6 train.
    assert parts(dataset) == {
        "random": ([names[place] for place in (5, 6, 7, 9, 2, 3)], [names[0], names[4]], [names[8], names[1]])
    }
    assert dataset.classes == [f"0{emotion}" for emotion in range(1, 9)]
    first, second, third, fourth = names[:4], names[4:6], names[6:8], names[8:]
    assert parts(load("ravdess", tmp_path, strict=True)) == {
        "actors 1-6": (third + fourth, second, first),
        "actors 7-12": (first + fourth, third, second),
        "actors 13-18": (first + second, fourth, third),
        "actors 19-24": (second + third, first, fourth),
    }


def test_audio_mnist(tmp_path: Path) -> None:
    folds = [
        "12 47 59 15 27 41 4 11 21 31 44 50",
        "26 52 60 18 32 42 5 13 22 33 45 51",
        "28 56 7 19 35 1 6 16 23 34 46 53",
        "36 57 9 24 37 2 8 17 29 39 48 54",
        "43 58 14 25 38 3 10 20 30 40 49 55",
    ]
    files = [{f"{speaker % 10}_{speaker:02d}_0" for speaker in map(int, fold.split())} for fold in folds]
    touch(tmp_path, *(f"data/{name[2:4]}/{name}.wav" for fold in files for name in fold))
    dataset = load("audio_mnist", tmp_path)
    assert len(dataset.clips) == 60
    found = {name: tuple(set(part) for part in three) for name, three in parts(dataset).items()}
    assert found == {
        "0": (files[2] | files[3] | files[4], files[1], files[0]),
        "1": (files[0] | files[3] | files[4], files[2], files[1]),
        "2": (files[0] | files[1] | files[4], files[3], files[2]),
        "3": (files[0] | files[1] | files[2], files[4], files[3]),
        "4": (files[1] | files[2] | files[3], files[0], files[4]),
    }


def test_slurp(tmp_path: Path) -> None:
    def row(intent: str, *files: str) -> str:
        return json.dumps({"intent": intent, "recordings": [{"file": f"{name}.flac"} for name in files]})

    write(tmp_path, "train.jsonl", row("b_set", "r2", "r1"), row("query", "r3"))
    write(tmp_path, "devel.jsonl", row("b_set", "r4"))
    write(tmp_path, "test.jsonl", row("a_get", "gone"), row("query", "r5"))
    touch(tmp_path, *(f"slurp_real/r{number}.flac" for number in (1, 2, 3, 4, 5)))
    dataset = load("slurp", tmp_path)
    assert parts(dataset) == {"official": (["r2", "r1", "r3"], ["r4"], ["gone", "r5"])}
    assert dataset.classes == ["a_get", "b_set", "query"]
    assert dataset.targets.tolist() == [1, 1, 2, 1, 0, 2]


def test_emovo(tmp_path: Path) -> None:
    names = {speaker: [f"dis-{speaker}-b1", f"tri-{speaker}-l4"] for speaker in ("f1", "f2", "m3")}
    touch(tmp_path, *(f"EMOVO/{speaker}/{name}.wav" for speaker, two in names.items() for name in two))
    # 10 % of four clips is one; the draw of four holds out place 1 and keeps 3 0 2.
    assert parts(load("emovo", tmp_path)) == {
        test: ([b[1], a[0], b[0]], [a[1]], names[test])
        for test, a, b in (
            ("f1", names["f2"], names["m3"]),
            ("f2", names["f1"], names["m3"]),
            ("m3", names["f1"], names["f2"]),
        )
    }
    assert parts(load("emovo", tmp_path, strict=True)) == {
        "f1": (names["m3"], names["f2"], names["f1"]),
        "f2": (names["f1"], names["m3"], names["f2"]),
        "m3": (names["f2"], names["f1"], names["m3"]),
    }


@pytest.mark.parametrize("identifier", [name for name in DECLARATIONS if name != "demo"])
def test_official_counts_add_up(identifier: str) -> None:
    official = DECLARATIONS[identifier].official
    if official.groups:
        assert sum(official.groups.values()) == official.clips
    if official.classes:
        assert sum(official.classes.values()) == official.clips
