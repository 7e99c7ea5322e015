"""What is looked at, against what is known by hand: effective rank, neighbours, sounds, files, names."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from arch_harness.datasets import Dataset, Fold
from arch_harness.datasets.declaration import Clip
from arch_harness.datasets.registry import open_dataset
from arch_harness.diagnosis import embeddings as looks
from arch_harness.diagnosis.embeddings import is_same_sound, look_at_embeddings
from arch_harness.diagnosis.files import look_at_files
from arch_harness.diagnosis.names import look_at_names
from arch_harness.embeddings.geometry import effective_rank
from arch_harness.results.predictions import Predictions
from numpy.typing import NDArray
from support.made_data import made_declaration, touch


def made(folder: Path, names: Sequence[str], labels: Sequence[int], folds: list[Fold], sources: str = "") -> Dataset:
    clips = [
        Clip(name, (str(label),), "", sources[place : place + 1])
        for place, (name, label) in enumerate(zip(names, labels, strict=True))
    ]
    targets = np.array(labels, dtype=np.int64)
    return Dataset(made_declaration(), folder, clips, sorted({str(label) for label in labels}), targets, folds)


def fold(train: Sequence[int], test: Sequence[int], name: str = "a") -> Fold:
    return Fold(name, np.array(train, dtype=np.int64), np.array([], dtype=np.int64), np.array(test, dtype=np.int64))


def right(tests: Sequence[int], values: Sequence[float]) -> Predictions:
    zeros = np.zeros(len(tests), dtype=np.int64)
    none = np.zeros((len(tests), 0), dtype=np.bool_)
    return Predictions("accuracy", np.array(tests), zeros, zeros, np.array(values, dtype=np.float32), none)


def directions(*values: float) -> NDArray[np.float32]:
    """Embeddings whose singular values, their mean taken off, are these; the mean is far away."""
    random = np.random.default_rng(0)
    columns = np.linalg.qr(np.column_stack([np.ones(60), random.standard_normal((60, len(values)))]))[0][:, 1:]
    rows = np.linalg.qr(random.standard_normal((16, 16)))[0][: len(values)]
    found: NDArray[np.float32] = (columns * np.array(values) @ rows + 50).astype(np.float32)
    return found


@pytest.mark.parametrize(
    ("values", "rank"),
    [((2.0,), 1.0), ((2.0, 2.0, 2.0), 3.0), ((3.0, 1.0), 1.7548), ((1.0,) * 12, 12.0)],
)
def test_the_effective_rank_is_that_of_roy_and_vetterli(values: tuple[float, ...], rank: float) -> None:
    """exp of the entropy of the shares: of 3 and 1, exp(-0.75 ln 0.75 - 0.25 ln 0.25) = 1.7548."""
    assert effective_rank(directions(*values)) == pytest.approx(rank, rel=2e-3)
    assert effective_rank(directions(*values)[:14]) <= min(13, rank + 0.01), "fewer clips than dimensions"


def test_embeddings_that_are_all_the_same_have_no_rank() -> None:
    assert effective_rank(np.full((9, 4), 3.7, dtype=np.float32)) == 0


def test_neighbours_are_those_of_a_plain_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "_TRAIN_BLOCK", 7)
    monkeypatch.setattr(looks, "_TEST_BLOCK", 3)
    random = np.random.default_rng(1)
    embeddings = random.standard_normal((50, 6)).astype(np.float32) + 9
    succeeded = random.random(50) < 0.8
    dataset = made(Path(), [f"{one}.wav" for one in range(50)], [0, 1] * 25, [fold(range(30), range(30, 50))])
    found = looks._neighbours(dataset, embeddings, succeeded)
    centred = embeddings - embeddings[succeeded].mean(axis=0)
    train, test = (np.array([one for one in part if succeeded[one]]) for part in (range(30), range(30, 50)))
    assert [one.test for one in found] == test.tolist()
    for one in found:
        cosines = [
            float(centred[one.test] @ centred[other])
            / float(np.linalg.norm(centred[one.test]) * np.linalg.norm(centred[other]))
            for other in train
        ]
        assert one.train == train[int(np.argmax(cosines))]
        assert one.cosine == pytest.approx(max(cosines), abs=1e-5)


def noise(folder: Path, name: str, seed: int, seconds: float = 1.0) -> NDArray[np.float64]:
    sound: NDArray[np.float64] = 0.2 * np.random.default_rng(seed).standard_normal(round(16000 * seconds))
    soundfile.write(folder / name, sound, 16000)
    return sound


def test_one_sound_in_two_files(tmp_path: Path) -> None:
    sound = noise(tmp_path, "a.wav", 1)
    noise(tmp_path, "other.wav", 2)
    soundfile.write(tmp_path / "quiet.flac", -0.3 * sound, 16000)
    soundfile.write(tmp_path / "shifted.wav", np.concatenate([np.zeros(800), sound])[:16000], 16000)
    soundfile.write(tmp_path / "coded.ogg", sound, 16000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")

    def same(name: str, other: str = "a.wav") -> bool:
        return is_same_sound(tmp_path / other, tmp_path / name, 5)

    assert [same(name) for name in ("a.wav", "quiet.flac", "shifted.wav", "coded.ogg")] == [True] * 4
    assert [same(name) for name in ("other.wav", "silent.wav", "broken.wav", "missing.wav")] == [False] * 4
    assert same("silent.wav", "silent.wav")


def test_near_copies_are_heard_and_scores_go_without_them(tmp_path: Path) -> None:
    """Of four test clips that lie on training clips, two are the same sound."""
    names = [f"{one}.wav" for one in range(24)]
    for place, name in enumerate(names):
        noise(tmp_path, name, place, 0.3)
    for test, train in ((20, 0), (21, 1)):
        sound, rate = soundfile.read(tmp_path / names[train])
        soundfile.write(tmp_path / names[test], 0.5 * sound, rate)
    embeddings = np.random.default_rng(3).standard_normal((24, 8)).astype(np.float32)
    embeddings[[20, 21, 22, 23]] = embeddings[[0, 1, 2, 3]] * 1.0001
    dataset = made(tmp_path, names, [0, 1] * 12, [fold(range(16), range(16, 24))])
    predictions = right(range(16, 24), [0, 0, 1, 0, 1, 1, 1, 1])
    seen = look_at_embeddings(dataset, embeddings, np.ones(24, dtype=np.bool_), [frozenset({23})], predictions)
    assert (seen.near, seen.near_heard, seen.near_same) == (3, 3, 2), "23 is known as a copy of a file"
    assert {(one.train, one.test) for one in seen.near_examples} == {("0.wav", "20.wav"), ("1.wav", "21.wav")}
    assert seen.score_without_copies == pytest.approx(2 / 5)
    embeddings[[20, 21]] = -embeddings[[20, 21]]
    unlike = look_at_embeddings(dataset, embeddings, np.ones(24, dtype=np.bool_), [frozenset()], predictions)
    assert (unlike.near, unlike.near_same, unlike.score_without_copies) == (2, 0, None)


def test_copies_of_files_and_shared_sources_are_counted(tmp_path: Path) -> None:
    for place, name in enumerate("abcdef"):
        noise(tmp_path, f"{name}.wav", place, 0.5 if place % 2 else 2.0)
    shutil.copy(tmp_path / "a.wav", tmp_path / "g.wav")
    # The same size and start, and another end.
    sound = noise(tmp_path, "h.wav", 9, 4.0)
    soundfile.write(tmp_path / "i.wav", np.append(sound[:-1], 0.5), 16000)
    names = [f"{name}.wav" for name in "abcdefghi"] + ["missing.wav"]
    folds = [fold([0, 1, 2, 7], [6, 8, 9]), fold([6, 8, 9], [0, 1, 7], "b")]
    facts = look_at_files(made(tmp_path, names, [0, 1] * 5, folds, "xyzxyzxyzx")).facts
    assert facts.looked_at == 9
    assert facts.sample_rates == {16000: 9}
    assert facts.channels == {1: 9}
    assert (facts.test_clips, facts.copies) == (6, 2)
    assert {(one.train, one.test) for one in facts.copy_examples} == {("a.wav", "g.wav"), ("g.wav", "a.wav")}
    # x is shared in both folds, y by 7 of fold a's training and none of its test clips, z by 2 and 8.
    assert (facts.sources, facts.shared_sources, facts.shared_source_clips) == (3, 2, 4)
    assert facts.cut == pytest.approx(6 / 9), "of those of 2 s and more, where a clip may have 1 s"


def test_a_folder_without_faults(demo_dataset: Path) -> None:
    facts = look_at_files(open_dataset(f"demo={demo_dataset}", Path())).facts
    assert (facts.copies, facts.shared_sources, facts.sources) == (0, 0, 0)
    assert (facts.looked_at, facts.test_clips) == (100, 100)


def test_speakers_that_only_names_tell_of() -> None:
    """Names hold label, speaker and take; embeddings are of the speaker in one case, of the label in the other."""
    random = np.random.default_rng(5)
    voices = ["ann", "bob", "eve"]
    names = [f"{label}_{voice}_{take}.wav" for label in range(5) for voice in voices for take in range(12)]
    labels = [int(name[0]) for name in names]
    order = random.permutation(len(names)).tolist()
    dataset = made(Path(), names, labels, [fold(order[:120], order[120:])])
    speakers = [voices.index(name.split("_")[1]) for name in names]
    found = {}
    for what, centres in (("speaker", speakers), ("label", labels)):
        embeddings = random.standard_normal((5, 16))[centres] * 4 + random.standard_normal((180, 16))
        nearest = looks._neighbours(dataset, embeddings.astype(np.float32), np.ones(180, dtype=np.bool_))
        found[what] = look_at_names(dataset, nearest)
    assert found["label"] is None
    seen = found["speaker"]
    assert seen is not None
    assert (seen.part, seen.values) == (2, 3)
    assert seen.same > 0.95
    assert seen.expected == pytest.approx(1 / 3, abs=0.1)


def test_names_that_tell_nothing_and_sources_that_are_known() -> None:
    random = np.random.default_rng(6)
    embeddings = random.standard_normal((100, 4)).astype(np.float32)
    there = np.ones(100, dtype=np.bool_)
    plain = made(Path(), [f"{one}.wav" for one in range(100)], [0, 1] * 50, [fold(range(60), range(60, 100))])
    assert look_at_names(plain, looks._neighbours(plain, embeddings, there)) is None
    names = [f"{one % 2}-{one // 50}.wav" for one in range(100)]
    embeddings[:50] += 20
    mixed = [fold(range(0, 100, 2), range(1, 100, 2))]
    known = made(Path(), names, [0, 1, 1, 0] * 25, mixed, "ab" * 50)
    guessed = made(Path(), names, [0, 1, 1, 0] * 25, mixed)
    nearest = looks._neighbours(known, embeddings, there)
    assert look_at_names(known, nearest) is None
    assert look_at_names(guessed, nearest) is not None


def test_a_manifest_names_groups(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    lines = ["path,label,split,Group", "a.wav,x,train,ann", "b.wav,y,train,", "c.wav,x,test, ann"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    with_groups = open_dataset(str(tmp_path), Path())
    assert [clip.source for clip in with_groups.clips] == ["ann", "", "ann"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines).replace(" ann", "eve"))
    assert open_dataset(str(tmp_path), Path()).listing != with_groups.listing
