"""The official layout of each of the twelve datasets: folders, file names, metadata columns, and their oddities."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable

from arch_harness.datasets.audio_mnist import SPEAKER_FOLDS
from arch_harness.datasets.emovo import EMOTIONS as EMOVO_EMOTIONS
from arch_harness.datasets.emovo import SPEAKERS as EMOVO_SPEAKERS
from arch_harness.datasets.fake import FaultKind, FixtureWriter
from arch_harness.datasets.irmas import INSTRUMENTS
from arch_harness.datasets.mtt import TAGS

# 10 sorts after 2 as a number and before it as text.
_NUMBERED = (0, 1, 2, 10)


def _esc50(writer: FixtureWriter) -> None:
    rows: list[tuple[object, ...]] = [("filename", "fold", "target", "category", "esc10", "src_file", "take")]
    for clip, group, kind in writer.places(5, len(_NUMBERED)):
        fold, target = group + 1, _NUMBERED[kind]
        name = f"{fold}-{100000 + clip}-A-{target}.wav"
        writer.write(f"audio/{name}", kind, fault="missing" if clip == writer.clips - 1 else None)
        writer.lists(fold, target)
        rows.append((name, fold, target, f"category_{target}", target in (0, 1), 100000 + clip, "A"))
    writer.table("meta/esc50.csv", rows)


def _us8k(writer: FixtureWriter) -> None:
    formats = (
        (8000, 1, "PCM_U8"),
        (11025, 2, "PCM_16"),
        (22050, 2, "PCM_24"),
        (44100, 1, "PCM_32"),
        (48000, 2, "FLOAT"),
        (96000, 1, "PCM_24"),
        (44100, 4, "PCM_16"),
    )
    header = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
    rows: list[tuple[object, ...]] = [header]
    for clip, group, kind in writer.places(10, 4):
        rate, channels, subtype = formats[clip % len(formats)]
        name = f"{200000 + clip // 2}-{kind}-0-{clip}.wav"
        fault: FaultKind | None = "undecodable" if clip == writer.clips - 1 else None
        writer.write(f"audio/fold{group + 1}/{name}", kind, rate=rate, channels=channels, subtype=subtype, fault=fault)
        writer.lists(group + 1, kind)
        rows.append((name, 200000 + clip // 2, 0.0, 0.5, 1, group + 1, kind, f"class_{kind}"))
    writer.table("metadata/UrbanSound8K.csv", rows)


def _fsd50k(writer: FixtureWriter) -> None:
    kinds = ("Bark,Dog,Animal", "Meow,Cat,Animal", "Acoustic_guitar,Music", "Siren", "Rain,Music")
    development: list[tuple[object, ...]] = [("fname", "labels", "mids", "split")]
    evaluation: list[tuple[object, ...]] = [("fname", "labels", "mids")]
    for clip, group, kind in writer.places(10, len(kinds)):
        fname, mids = 64760 + clip, ",".join(f"/m/0{kind}{place}" for place in range(kinds[kind].count(",") + 1))
        folder = "FSD50K.eval_audio" if group >= 7 else "FSD50K.dev_audio"
        writer.write(f"{folder}/{fname}.wav", kind, seconds=11 if clip == 0 else 0.5)
        writer.lists("eval" if group >= 7 else "val" if group == 6 else "train", *kinds[kind].split(","))
        if group >= 7:
            evaluation.append((fname, kinds[kind], mids))
        else:
            development.append((fname, kinds[kind], mids, "val" if group == 6 else "train"))
    writer.table("FSD50K.ground_truth/dev.csv", development)
    writer.table("FSD50K.ground_truth/eval.csv", evaluation)


def _vivae(writer: FixtureWriter) -> None:
    emotions = ("achievement", "anger", "fear", "pain", "pleasure", "surprise")
    intensities = ("low", "moderate", "strong", "peak")
    for clip, group, kind in writer.places(11, len(emotions)):
        name = f"S{group + 1:02d}_{emotions[kind]}_{intensities[clip % 4]}_{clip // 11 + 1:02d}.wav"
        writer.write(f"full_set/{name}", kind, rate=48000)
        writer.lists(f"{group + 1:02d}", emotions[kind])
        if clip % 5 == 0:
            (writer.folder / "core_set").mkdir(exist_ok=True)
            shutil.copyfile(writer.folder / "full_set" / name, writer.folder / "core_set" / name)


def _fma_small(writer: FixtureWriter) -> None:
    present = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
    absent = ("Blues", "Classical", "Country", "Easy Listening", "Jazz", "Old-Time / Historic", "Soul-RnB", "Spoken")
    columns = (
        *(("album", "title"), ("artist", "id"), ("set", "split"), ("set", "subset")),
        *(("track", "duration"), ("track", "genre_top"), ("track", "genres"), ("track", "title")),
    )
    rows: list[tuple[object, ...]] = [
        ("", *(first for first, _ in columns)),
        ("", *(second for _, second in columns)),
        ("track_id", *("" for _ in columns)),
    ]
    for clip, group, kind in writer.places(10, len(present)):
        track = 2 + 3511 * clip
        fault: FaultKind | None = "undecodable" if clip == 5 else "missing" if clip == writer.clips - 1 else None
        path = f"fma_small/{f'{track:06d}'[:3]}/{track:06d}.mp3"
        writer.write(path, kind, channels=2, fault=fault)
        split = "training" if group < 8 else "validation" if group == 8 else "test"
        if fault == "missing" and writer.quirks:  # such a track is not listed, as in ARCH, so it cannot be at fault
            del writer.faults[path]
        else:
            writer.lists(split, present[kind])
        rows.append((track, "An album, with a comma", clip, split, "small", 30, present[kind], "[1, 2]", "A\nname"))
        if clip < len(absent):  # of the large subset: no file here
            rows.append((track + 1, "", clip, "training", "medium", 30, absent[clip], "[]", ""))
            rows.append((track + 2, "", clip, "training", "large", 30, "", "[]", "no genre"))
    if writer.quirks:  # the track 4 has a file but no genre
        writer.write("fma_small/000/000004.mp3", 0)
    writer.table("fma_metadata/tracks.csv", rows)


def _mtt(writer: FixtureWriter) -> None:
    tags = [*TAGS, *(f"rare tag {number}" for number in range(188 - len(TAGS)))]
    kinds = (("guitar", "slow"), ("techno", "beat", "beats"), ("piano", "classical"), ("female vocal",))
    rows: list[tuple[object, ...]] = [("clip_id", *tags, "mp3_path")]
    lists: dict[str, list[tuple[object, ...]]] = {"train": [], "val": [], "test": []}
    for clip, group, kind in writer.places(10, len(kinds)):
        path = f"{clip % 16:x}/artist-album-{clip:02d}-title-0-29.mp3"
        fault: FaultKind | None = "zero length" if clip == 3 else "undecodable" if clip == 17 else None
        writer.write(path, kind, rate=16000, fault=fault)
        rows.append((clip + 2, *(int(tag in kinds[kind]) for tag in tags), path))
        split = "train" if group < 6 else "val" if group == 6 else "test"
        lists[split].append((clip + 2, int(kind == 0), "..."))
        writer.lists(split, *kinds[kind])
    rows.append((9001, *(int(tag == "rare tag 7") for tag in tags), "a/none-of-the-50-0-29.mp3"))
    writer.write("a/none-of-the-50-0-29.mp3", 0, rate=16000)
    lists["train"].append((9001, 0, "..."))
    writer.table("annotations_final.csv", rows, "\t")
    for name, entries in lists.items():
        writer.table(f"{name}_gt_mtt.tsv", entries, "\t")


def _irmas(writer: FixtureWriter) -> None:
    excerpts = Counter[str]()
    for clip, group, kind in writer.places(10, len(INSTRUMENTS)):
        instrument = INSTRUMENTS[kind]
        if group < 7:  # a recording gives two excerpts
            recording, excerpt = divmod(excerpts[instrument], 2)
            excerpts[instrument] += 1
            name = f"[{instrument}][cla]{100 * kind + recording:04d}__{excerpt + 1}.wav"
            writer.write(f"IRMAS-TrainingData/{instrument}/{name}", kind, channels=2)
            writer.lists("train", instrument)
        else:
            stem = f"IRMAS-TestingData-Part{clip % 3 + 1}/Part{clip % 3 + 1}/{clip:02d} - A Title-{clip}"
            writer.write(f"{stem}.wav", kind, channels=2)
            second = INSTRUMENTS[(kind + 1) % len(INSTRUMENTS)]
            heard = (instrument, second) if clip % 2 else (instrument,)
            writer.text(f"{stem}.txt", "".join(f"{one}\t\n" for one in heard))
            writer.lists("test", *heard)


def _medley_solos_db(writer: FixtureWriter) -> None:
    rows: list[tuple[object, ...]] = [("subset", "instrument", "instrument_id", "song_id", "uuid4")]
    for clip, group, kind in writer.places(10, 4):
        subset = "training" if group < 5 else "validation" if group < 7 else "test"
        uuid = f"{clip:08x}-0000-4000-8000-{clip:012x}"
        writer.write(f"audio/Medley-solos-DB_{subset}-{kind}_{uuid}.wav", kind, subtype="FLOAT")
        writer.lists(subset, kind)
        rows.append((subset, f"instrument {kind}", kind, clip, uuid))
    writer.table("Medley-solos-DB_metadata.csv", rows)


def _ravdess(writer: FixtureWriter) -> None:
    for clip, group, kind in writer.places(24, 8):
        take = clip // 24
        name = f"03-01-{kind + 1:02d}-01-{take % 2 + 1:02d}-{take // 2 + 1:02d}-{group + 1:02d}.wav"
        writer.write(f"Actor_{group + 1:02d}/{name}", kind, rate=48000, channels=2 if clip == 4 else 1)
        writer.lists(f"{group + 1:02d}", f"{kind + 1:02d}")


def _audio_mnist(writer: FixtureWriter) -> None:
    speakers = [speaker for place in (0, 1) for speaker in (fold[place] for fold in SPEAKER_FOLDS)]
    for clip, group, kind in writer.places(len(speakers), 10):
        speaker = speakers[group]
        writer.write(f"data/{speaker:02d}/{kind}_{speaker:02d}_{clip // 10}.wav", kind, rate=48000)
        writer.lists(group % len(SPEAKER_FOLDS), kind)
    meta = {f"{speaker:02d}": {"accent": "none", "age": 30, "gender": "male"} for speaker in speakers}
    writer.text("data/audioMNIST_meta.txt", json.dumps(meta, indent=4))


def _slurp(writer: FixtureWriter) -> None:
    # The last one lacks its scenario, as a few rows of the release do.
    intents = ("alarm_set", "calendar_query", "play_music", "query")
    rows: dict[str, list[str]] = {"train": [], "devel": [], "test": []}
    for clip, group, kind in writer.places(10, len(intents)):
        if clip % 2:
            continue
        split = "train" if group < 6 else "devel" if group == 6 else "test"
        recordings = []
        for take in (clip, clip + 1):
            if take < writer.clips:
                name = f"audio-{1434542201 + take}{'-headset' if take % 2 else ''}.flac"
                fault: FaultKind | None = "missing" if take == 21 else None
                writer.write(f"slurp_real/{name}", kind, rate=16000, fault=fault)
                writer.lists(split, intents[kind])
                recordings.append({"file": name, "wer": 0.0, "ent_wer": 0.0, "status": "correct"})
        scenario, _, action = intents[kind].rpartition("_")
        row = {
            "slurp_id": clip,
            "sentence": "wake me up",
            "intent": intents[kind],
            "action": action,
            "scenario": scenario or "general",
            "recordings": recordings,
        }
        rows[split].append(json.dumps(row))
    for name, lines in rows.items():
        writer.text(f"{name}.jsonl", "\n".join(lines) + "\n")


def _emovo(writer: FixtureWriter) -> None:
    for clip, group, kind in writer.places(len(EMOVO_SPEAKERS), len(EMOVO_EMOTIONS)):
        speaker = EMOVO_SPEAKERS[group]
        name = f"{EMOVO_EMOTIONS[kind]}-{speaker}-{'bln'[clip // 6 % 3]}{clip // 18 + 1}.wav"
        writer.write(f"EMOVO/{speaker}/{name}", kind, rate=48000, channels=2)
        writer.lists(speaker, EMOVO_EMOTIONS[kind])


LAYOUTS: dict[str, Callable[[FixtureWriter], None]] = {
    "esc50": _esc50,
    "us8k": _us8k,
    "fsd50k": _fsd50k,
    "vivae": _vivae,
    "fma_small": _fma_small,
    "mtt": _mtt,
    "irmas": _irmas,
    "medley_solos_db": _medley_solos_db,
    "ravdess": _ravdess,
    "audio_mnist": _audio_mnist,
    "slurp": _slurp,
    "emovo": _emovo,
}
