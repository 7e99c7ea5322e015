"""`arch data verify` finds what is planted and nothing else; list, info and fake show what is there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from arch_bench.main import app
from arch_common.errors import ArchError, UsageError
from arch_harness.datasets import Declaration, load_dataset
from arch_harness.datasets.catalog import ARCH, DECLARATIONS
from arch_harness.datasets.dataset import count_clips
from arch_harness.datasets.declaration import Listing
from arch_harness.datasets.fixtures.fixture import write_fixture
from arch_harness.datasets.info import describe
from arch_harness.datasets.registry import open_dataset
from arch_harness.datasets.verify import verify
from support.commands import arch, one_line
from support.sounds import encode, forget_flac_length, tone
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for declaration in ARCH:
        write_fixture(declaration, folder / declaration.id)
    return folder


@pytest.mark.parametrize("declaration", ARCH, ids=lambda one: one.id)
def test_a_fixture_has_the_faults_that_its_release_has(declaration: Declaration, tmp_path: Path) -> None:
    fixture = write_fixture(declaration, tmp_path / "f")
    dataset = load_dataset(declaration, tmp_path / "f")
    checked: list[None] = []
    faults = verify(dataset, 1, lambda: checked.append(None))
    assert {fault.where: fault.kind for fault in faults} == fixture.faults
    assert len(faults) == len(fixture.faults)
    assert len(checked) == len(dataset.clips)
    assert any("synthesised" in note for note in dataset.notes)


@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("declaration", ARCH, ids=lambda one: one.id)
def test_a_fixture_counts_what_it_lists_by_itself(declaration: Declaration, tmp_path: Path, quirks: bool) -> None:
    """So that code which loses a clip is told, though it is the code that reads the fixture."""

    def losing(folder: Path) -> Listing:
        found = declaration.find_clips(folder)
        return replace(found, clips=found.clips[1:])

    fixture = write_fixture(replace(declaration, find_clips=losing), tmp_path / "f", 43, quirks)
    counts = count_clips(declaration.find_clips(tmp_path / "f").clips)
    assert (fixture.clips, fixture.groups, fixture.classes) == (counts.clips, counts.groups, counts.classes)


def test_every_planted_fault_is_found_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "esc50"
    write_fixture(DECLARATIONS["esc50"], folder, clips=60, quirks=False)
    table = folder / "meta" / "esc50.csv"
    header, *rows = table.read_text().splitlines()
    files = {index: folder / "audio" / row.split(",")[0] for index, row in enumerate(rows)}

    # Rows 0, 5, 10 ... are of fold 1, rows 1, 6, 11 ... of fold 2.
    planted = set()
    files[0].unlink()
    planted.add(("missing", files[0].name))
    files[1].write_bytes(b"")
    planted.add(("zero length", files[1].name))
    soundfile.write(files[2], np.zeros(0, np.float32), 44100)
    planted.add(("zero length", files[2].name))
    files[3].write_bytes(b"RIFF, or so it says" * 100)
    planted.add(("undecodable", files[3].name))
    soundfile.write(files[4], np.array([0.1, np.nan, 0.1], np.float32), 44100, subtype="FLOAT")
    planted.add(("undecodable", files[4].name))
    (folder / "audio" / "stray.ogg").write_bytes(files[6].read_bytes())  # its audio is that of a clip, yet no leak
    planted.add(("extra", "stray.ogg"))
    # The same audio in folds 1 and 2, in files that differ: a leak. Twice within fold 1: none.
    audio, rate = soundfile.read(files[5], dtype="int16")
    soundfile.write(files[11], audio, rate, format="WAVEX", subtype="PCM_16")
    assert files[11].read_bytes() != files[5].read_bytes()
    planted.add(("leak", files[11].name))
    files[15].write_bytes(files[10].read_bytes())
    # A row that is gone: one clip, one of fold 3 and one of its class too few, and a file that nothing lists.
    gone = rows[12].split(",")
    rows[12:13] = []
    table.write_text("\n".join([header, *rows]) + "\n")
    planted |= {("extra", gone[0]), ("count", "clips"), ("count", f"group {gone[1]}"), ("count", f"class {gone[2]}")}

    faults = verify(load_dataset(DECLARATIONS["esc50"], folder), 2)
    assert sorted((fault.kind, fault.where.removeprefix("audio/")) for fault in faults) == sorted(planted)
    leak = next(fault for fault in faults if fault.kind == "leak")
    assert leak.detail == f"the same audio as audio/{files[5].name}: train and test of fold 1"


def test_clips_cut_short_and_out_of_range_are_found_and_no_others(tmp_path: Path) -> None:
    names = (("x.wav", "WAV", "PCM_16"), ("x.ogg", "OGG", "VORBIS"), ("x.mp3", "MP3", "MPEG_LAYER_III"))
    for index, (name, container, subtype) in enumerate(names):
        content = encode(tone(300 + 50 * index, 4, 44100), 44100, container, subtype)
        for label, part in (("whole", content), ("half", content[: len(content) // 2])):
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / label / name).write_bytes(part)
    flac = forget_flac_length(encode(tone(500, 4, 16000), 16000, "FLAC", "PCM_16"))
    (tmp_path / "whole" / "pipe.flac").write_bytes(flac)
    # A mix that goes beyond full scale, and integers that were written as floating point.
    soundfile.write(tmp_path / "whole" / "mix.wav", 4 * tone(600, 1, 16000), 16000, subtype="FLOAT")
    integers = 32768 * tone(700, 1, 16000)
    soundfile.write(tmp_path / "half" / "integers.wav", integers, 16000, subtype="FLOAT")
    faults = {fault.where: fault for fault in verify(open_dataset(str(tmp_path), tmp_path), 1)}
    assert {where: fault.kind for where, fault in faults.items()} == {
        "half/x.wav": "cut short",
        "half/x.ogg": "cut short",
        "half/x.mp3": "cut short",
        "half/integers.wav": "out of range",
    }
    assert faults["half/x.wav"].detail == "its header declares 352,800 bytes of sound, and 176,378 are there"
    peak = f"its samples reach {np.abs(integers).max():,.0f}, far outside [-1, 1]"
    assert faults["half/integers.wav"].detail.startswith(peak)


def test_a_file_that_kills_who_decodes_it_is_told_and_the_rest_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for name in ("0", "1", "2"):
            frequency = 300 + 50 * int(name) + 400 * (label == "b")
            soundfile.write(tmp_path / "data" / label / f"{name}.wav", tone(frequency, 1, 16000), 16000)
    (tmp_path / "data" / "b" / "2.wav").write_bytes(b"")
    dataset = open_dataset(str(tmp_path / "data"), tmp_path)
    # Read by each process that starts from here on: opening two of the files ends it, as a crash of a decoder does.
    (tmp_path / "sitecustomize.py").write_text(
        "import io, os\n"
        "open_ = io.open\n"
        "io.open = lambda file, *rest, **more: (\n"
        "    os._exit(139) if str(file).endswith(('a/1.wav', 'b/0.wav')) else open_(file, *rest, **more)\n"
        ")\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    faults = verify(dataset, 2)
    assert [(fault.where, fault.kind) for fault in faults] == [
        ("a/1.wav", "undecodable"),
        ("b/0.wav", "undecodable"),
        ("b/2.wav", "zero length"),
    ]
    assert "dies" in faults[0].detail


def test_a_clip_that_is_listed_in_two_parts_leaks(tmp_path: Path) -> None:
    """The path is the same, so nothing but its two rows tells; it need not even be there."""
    folder = tmp_path / "medley"
    write_fixture(DECLARATIONS["medley_solos_db"], folder, quirks=False)
    (folder / "arch-fixture.json").unlink()
    dataset = load_dataset(DECLARATIONS["medley_solos_db"], folder)
    fold = dataset.folds[0]
    train, test = (dataset.clips[part[0]].path for part in (fold.train, fold.test))
    (folder / test).unlink()
    doubled = [
        replace(clip, path={fold.validation[0]: train, fold.test[1]: test, fold.train[1]: test}.get(index, clip.path))
        for index, clip in enumerate(dataset.clips)
    ]
    leaks = [fault for fault in verify(replace(dataset, clips=doubled), 1) if fault.kind == "leak"]
    assert {(leak.where, leak.detail) for leak in leaks} == {
        (train, f"listed more than once: train and validation of fold {fold.name}"),
        (test, f"listed more than once: train and test of fold {fold.name}"),
    }


def test_the_official_counts_are_what_data_that_is_no_fixture_must_have(tmp_path: Path) -> None:
    write_fixture(DECLARATIONS["emovo"], tmp_path / "emovo", quirks=False)
    (tmp_path / "emovo" / "arch-fixture.json").unlink()
    dataset = load_dataset(DECLARATIONS["emovo"], tmp_path / "emovo")
    found = {fault.where: fault.detail for fault in verify(dataset, 1)}
    assert found["clips"] == "40 where 588 are expected"
    assert found["group f1"] == "7 clips where 98 are expected"
    assert found["class tri"].endswith("where 84 are expected")
    assert len(found) == 1 + 6 + 7


@pytest.mark.parametrize(
    ("identifier", "shortfall"),
    [
        ("esc50", "40 clips of 4 classes were found where the official release has 2,000 clips of 50 classes: "),
        ("mtt", "40 clips of 8 classes were found where the official release has 50 classes: "),
        ("fma_small", "40 clips of 8 classes were found where the official release has 8,000 clips of 8 classes: "),
        ("slurp", None),  # neither is published
    ],
)
def test_what_is_not_complete_says_so_in_clips_and_classes(
    tmp_path: Path, identifier: str, shortfall: str | None
) -> None:
    write_fixture(DECLARATIONS[identifier], tmp_path / "d", quirks=False)
    (tmp_path / "d" / "arch-fixture.json").unlink()
    dataset = load_dataset(DECLARATIONS[identifier], tmp_path / "d")
    found = [note for note in dataset.notes if "were found where" in note]
    assert dataset.incomplete == (shortfall is not None)
    assert found == ([f"{shortfall}the score cannot be compared with published ones."] if shortfall else [])


@pytest.mark.slow
def test_the_command_says_so_with_its_exit_code(root: Path) -> None:
    done = arch("data", "verify", "emovo", "mtt", "--workers", "1", "--data-root", str(root))
    assert done.returncode == 1, done.stderr
    assert "emovo: no faults in 40 clips" in done.stdout
    assert "mtt: 2 faults" in done.stdout
    assert "mpg123" not in done.stderr
    assert "no faults" in run("data", "verify", "emovo", "--workers", "1", "--data-root", str(root))


def test_what_cannot_be_written_is_one_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArchError, match="cannot write the fixture"):
        write_fixture(DECLARATIONS["esc50"], tmp_path / "file" / "esc50")
    plot = str(tmp_path / "no folder" / "plot.svg")
    with pytest.raises(ArchError, match=r"cannot write .*plot\.svg"):
        app(["data", "info", "us8k", "--data-root", str(root), "--plot", plot], standalone_mode=False)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "110"})
    assert done.exit_code == 0, done.output
    return done.output


def test_list_tells_what_is_present(root: Path, tmp_path: Path) -> None:
    assert run("data", "list", "--data-root", str(root)).count("fixture") == 12
    listed = run("data", "list", "--data-root", str(tmp_path))
    assert "by hand" in listed
    for declaration in ARCH:
        assert declaration.id in listed


def test_list_tells_what_a_download_takes_or_that_there_is_none(tmp_path: Path) -> None:
    listed = {line.split()[0]: line.split() for line in run("data", "list", "--data-root", str(tmp_path)).splitlines()}
    assert [listed[name][5] for name in ("esc50", "fsd50k", "slurp", "emovo", "demo")] == [
        "0.6",
        "24.7",
        "3.9",
        "-",
        "-",
    ]
    assert listed["GB:"]


def test_a_shell_completes_the_ids() -> None:
    words = {"_ARCH_COMPLETE": "complete_bash", "COMP_WORDS": "arch data info e", "COMP_CWORD": "3"}
    assert CliRunner().invoke(app, [], prog_name="arch", env=words).output.split() == ["esc50", "emovo"]


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    """Whatever stands in brackets in them: rich would take it for markup, and leave it out or fail."""
    for label, take in (("[cel]", "[/x]"), ("[cel]", "[bold]2"), ("[/cla]", "1"), (":dog:", "1"), ("[cel]", "3")):
        (tmp_path / "d" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / label / f"{take.replace('/', '')}.wav").write_bytes(b"")
    shown = run("data", "info", str(tmp_path / "d"))
    assert all(f" {label} " in shown for label in ("[cel]", "[", ":dog:"))
    done = CliRunner().invoke(app, ["data", "verify", str(tmp_path / "d")], env={"COLUMNS": "110"})
    assert done.exit_code == 1
    assert all(f" {name} " in done.output for name in ("[cel]/[bold]2.wav", "[cel]/[x].wav", ":dog:/1.wav"))


@pytest.mark.slow
def test_a_name_that_is_no_utf8_is_one_line_or_shown_as_what_can_be(tmp_path: Path) -> None:
    write_fixture(DECLARATIONS["vivae"], tmp_path / "vivae", quirks=False)
    stray = tmp_path / "vivae" / "full_set" / os.fsdecode(b"caf\xe9.ogg")
    stray.touch()
    done = arch("data", "verify", "vivae", "--workers", "1", "--data-root", str(tmp_path))
    assert done.returncode == 1
    assert r"full_set/caf\udce9.ogg" in done.stdout
    stray.rename(stray.with_suffix(".wav"))
    for command in (("data", "verify", "vivae"), ("data", "info", "vivae"), ("bench", "--dataset", "vivae")):
        done = arch(*command, "--data-root", str(tmp_path))
        assert done.returncode == 2
        assert (
            one_line(done) == r"arch: full_set/caf\udce9.wav is not named S<speaker>_<emotion>_<intensity>_<take>.wav"
        )


def test_info_tells_durations_formats_and_balance(root: Path, tmp_path: Path) -> None:
    found = describe(load_dataset(DECLARATIONS["us8k"], root / "us8k"))
    assert found.unreadable == 1
    assert sum(found.formats.values()) == len(found.seconds) == 39
    assert found.formats["wav 8000 Hz, 1 channel"] == 6
    assert set(found.classes.values()) == {10}
    assert found.seconds == pytest.approx(0.5, abs=1e-3)
    for plot, start in (("plot.svg", b"<?xml"), ("plot.png", b"\x89PNG")):
        shown = run("data", "info", "fma_small", "--data-root", str(root), "--plot", str(tmp_path / plot))
        assert (tmp_path / plot).read_bytes().startswith(start)
        assert "16 classes" in shown
    (tmp_path / "folder.svg").mkdir()
    for wrong, message in (("x.gif", r"must end in \.svg or \.png"), (f"{tmp_path}/folder.svg", "it is a folder$")):
        with pytest.raises(UsageError, match=message):
            app(["data", "info", "us8k", "--data-root", str(root), "--plot", wrong], standalone_mode=False)


def test_fake_repeats_itself_and_overwrites_nothing(tmp_path: Path) -> None:
    said = run("data", "fake", "slurp", "--clips", "44", "--data-root", str(tmp_path))
    assert "44 clips in" in said
    assert "audio-1434542222-headset.flac: missing" in said
    run("data", "fake", "slurp", "--clips", "44", "--output", str(tmp_path / "again"))
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("slurp", "again")
    )
    assert one == two
    with pytest.raises(UsageError, match="is not an empty folder"):
        write_fixture(DECLARATIONS["slurp"], tmp_path / "slurp")
    with pytest.raises(UsageError, match="needs from 40 clips"):
        write_fixture(DECLARATIONS["slurp"], tmp_path / "few", clips=39)
    with pytest.raises(UsageError, match="there is no fixture of 'demo'"):
        write_fixture(DECLARATIONS["demo"], tmp_path / "demo")


def test_arch_data_names_the_data_root(root: Path) -> None:
    done = CliRunner().invoke(app, ["data", "list"], env=dict(os.environ) | {"ARCH_DATA": str(root), "COLUMNS": "110"})
    assert done.output.count("fixture") == 12
