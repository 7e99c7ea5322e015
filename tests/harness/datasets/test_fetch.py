"""Fetching from a real HTTP server that misbehaves in the ways servers, disks and networks do."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from arch_common.errors import ArchError, UsageError
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.datasets.declaration import Declaration
from arch_harness.datasets.download.fetch import fetch
from arch_harness.datasets.download.remotes import Remote, RemoteFile
from support.commands import ARCH
from support.fetching import CLIPS, DATASET, EXPECTED, Quiet, archive, content, one_table, one_zip, tree
from support.http_site import Site
from support.waiting import until
from typer.testing import CliRunner


def test_all_is_there_and_nothing_else(site: Site, tmp_path: Path) -> None:
    assert fetch(one_zip(site), tmp_path, Quiet()) == tmp_path / DATASET
    assert tree(tmp_path) == {f"{DATASET}/{name}": data for name, data in EXPECTED.items()}
    with pytest.raises(UsageError, match="is there already"):
        fetch(one_zip(site), tmp_path, Quiet())


@pytest.mark.parametrize("checksum", ["right", None])
def test_a_cut_connection_is_resumed(site: Site, tmp_path: Path, checksum: str | None) -> None:
    declaration = one_zip(site, checksum)
    site.cut_after = {"all.zip": [10_000, 5_000]}
    watch = Quiet()
    fetch(declaration, tmp_path, watch)
    assert site.log == [("all.zip", None), ("all.zip", "bytes=10000-"), ("all.zip", "bytes=15000-")]
    assert tree(tmp_path / DATASET) == EXPECTED
    assert sum("the connection was cut after" in note for note in watch.notes) == 2


def test_a_file_that_changed_in_between_is_begun_again(site: Site, tmp_path: Path) -> None:
    declaration = one_zip(site, None)
    work = tmp_path / ".fetch" / DATASET
    work.mkdir(parents=True)
    (work / "all.zip.part").write_bytes(b"older" * 1000)
    (work / "all.zip.version").write_text('"0"')
    fetch(declaration, tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == EXPECTED


@pytest.mark.parametrize(("ranges", "etag"), [(False, '"1"'), (True, "")])
def test_a_server_that_cannot_go_on_is_asked_for_all(site: Site, tmp_path: Path, ranges: bool, etag: str) -> None:
    declaration = one_zip(site, None)
    site.ranges, site.etag, site.cut_after = ranges, etag, {"all.zip": [10_000]}
    fetch(declaration, tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == EXPECTED


def test_a_range_shorter_than_asked_for_is_not_the_end(site: Site, tmp_path: Path) -> None:
    site.files["table.tsv"] = content("table")
    site.cut_after, site.most = {"table.tsv": [10_000]}, 15_000
    fetch(one_table(site), tmp_path, Quiet())
    assert (tmp_path / DATASET / "table.tsv").read_bytes() == content("table")
    assert [asked for _, asked in site.log] == [None, "bytes=10000-", "bytes=25000-", "bytes=40000-"]


def test_a_range_of_another_version_is_not_appended(site: Site, tmp_path: Path) -> None:
    site.files["table.tsv"], site.if_range = content("new"), False
    work = tmp_path / ".fetch" / DATASET
    work.mkdir(parents=True)
    (work / "table.tsv.part").write_bytes(content("old")[:9_000])
    (work / "table.tsv.version").write_text('"0"')
    fetch(one_table(site), tmp_path, Quiet())
    assert (tmp_path / DATASET / "table.tsv").read_bytes() == content("new")


def test_a_length_that_nobody_tells_is_an_error_unless_a_checksum_stands_in(site: Site, tmp_path: Path) -> None:
    site.files["table.tsv"], site.length = content("table"), False
    with pytest.raises(ArchError, match=r"table\.tsv cannot be downloaded: the server does not say how long it is"):
        fetch(one_table(site), tmp_path, Quiet())
    digest = hashlib.md5(content("table")).hexdigest()  # noqa: S324
    fetch(one_table(site, f"md5:{digest}"), tmp_path, Quiet())
    assert (tmp_path / DATASET / "table.tsv").read_bytes() == content("table")


@pytest.mark.parametrize(
    "error", [OSError(errno.EHOSTUNREACH, "No route to host"), ssl.SSLError(1, "bad record mac")], ids=["route", "ssl"]
)
def test_any_trouble_of_the_network_is_tried_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    declaration = one_zip(site)
    read1, troubles = http.client.HTTPResponse.read1, [error]

    def failing(response: http.client.HTTPResponse, count: int = -1) -> bytes:
        if troubles:
            raise troubles.pop()
        return read1(response, count)

    monkeypatch.setattr(http.client.HTTPResponse, "read1", failing)
    watch = Quiet()
    fetch(declaration, tmp_path, watch)
    assert tree(tmp_path / DATASET) == EXPECTED
    assert watch.notes[0] == f"all.zip: {error.strerror}; going on"
    troubles += [error] * 10
    with pytest.raises(ArchError, match=r"cannot be downloaded: .*; the same command tries again"):
        fetch(declaration, tmp_path / "other", watch)


def test_a_kill_leaves_no_old_bytes_under_a_new_version(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["table.tsv"] = content("new")
    work = tmp_path / ".fetch" / DATASET
    work.mkdir(parents=True)
    (work / "table.tsv.part").write_bytes(content("old")[:9_000])
    (work / "table.tsv.version").write_text('"0"')

    class KilledError(Exception):
        pass

    def kill(*_: object) -> int:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("arch_harness.datasets.download.fetch.Path.write_text", kill)
        with pytest.raises(KilledError):
            fetch(one_table(site), tmp_path, Quiet())
    assert (work / "table.tsv.part").stat().st_size == 0
    fetch(one_table(site), tmp_path, Quiet())
    assert (tmp_path / DATASET / "table.tsv").read_bytes() == content("new")


def test_a_server_that_always_cuts_is_given_up_and_taken_up_again(site: Site, tmp_path: Path) -> None:
    declaration = one_zip(site)
    site.cut_after = {"all.zip": [7_000, 0, 0, 0, 0]}
    with pytest.raises(ArchError, match=r"cut after 7,000 of .* bytes; the same command tries again"):
        fetch(declaration, tmp_path, Quiet())
    assert not (tmp_path / DATASET).exists()
    site.log.clear()
    fetch(declaration, tmp_path, Quiet())
    assert site.log == [("all.zip", "bytes=7000-")]
    assert tree(tmp_path / DATASET) == EXPECTED


def test_a_wrong_checksum_is_refused_and_the_file_deleted(site: Site, tmp_path: Path) -> None:
    declaration = one_zip(site, f"md5:{'0' * 32}")
    with pytest.raises(ArchError, match=r"its md5 is [0-9a-f]{32}, not the published 0{32}; it was deleted"):
        fetch(declaration, tmp_path, Quiet())
    assert set(tree(tmp_path / ".fetch" / DATASET)) <= {"lock", "all.zip.version"}
    assert not (tmp_path / DATASET).exists()


@pytest.mark.parametrize("status", [404, 403])
def test_a_refusal_is_final(site: Site, tmp_path: Path, status: int) -> None:
    declaration = one_zip(site)
    site.status = status
    with pytest.raises(ArchError, match=rf"all\.zip cannot be downloaded: the server answers {status}"):
        fetch(declaration, tmp_path, Quiet())
    assert len(site.log) == 1
    assert not (tmp_path / DATASET).exists()


def of_zenodo(site: Site, monkeypatch: pytest.MonkeyPatch, record: bytes | None) -> Declaration:
    """A dataset of two files of record 12, whose own address answers with `record`."""
    monkeypatch.setattr("arch_harness.datasets.download.zenodo.SITE", site.url)
    site.files |= {"all.zip": archive(*CLIPS), "table.csv": b"a,b\n"} | ({"12": record} if record else {})
    files = [RemoteFile(f"{site.url}/records/12/files/{name}", name) for name in ("all.zip", "table.csv")]
    return replace(DECLARATIONS[DATASET], remotes=tuple(Remote((file,)) for file in files))


def record_of(site: Site) -> bytes:
    files = [
        {"key": name, "checksum": f"md5:{hashlib.md5(site.files[name]).hexdigest()}"}  # noqa: S324
        for name in ("all.zip", "table.csv")
    ]
    return json.dumps({"id": 12, "files": files}).encode()


def test_zenodo_tells_the_checksums(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declaration = of_zenodo(site, monkeypatch, None)
    site.files["12"] = record_of(site)
    site.files["table.csv"] = b"a,c\n"  # a change of no consequence to any other check
    watch = Quiet()
    with pytest.raises(ArchError, match=r"table\.csv: its md5 is .*, not the published"):
        fetch(declaration, tmp_path, watch)
    assert [name for name, _ in site.log].count("12") == 1
    site.files["table.csv"] = b"a,b\n"
    fetch(declaration, tmp_path, watch)
    assert tree(tmp_path / DATASET) == EXPECTED | {"table.csv": b"a,b\n"}
    assert not any("Zenodo" in note for note in watch.notes)


@pytest.mark.parametrize("record", [None, b"<html>", b'{"files": 3}', b'{"files": [{}]}', b"[]"])
def test_zenodo_is_not_needed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: bytes | None
) -> None:
    watch = Quiet()
    fetch(of_zenodo(site, monkeypatch, record), tmp_path, watch)
    assert tree(tmp_path / DATASET) == EXPECTED | {"table.csv": b"a,b\n"}
    notes = [note for note in watch.notes if "the checksums of Zenodo record 12 cannot be read" in note]
    assert len(notes) == 1


def test_a_mirror_is_fetched_from_without_zenodo(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(of_zenodo(site, monkeypatch, b"{}"), tmp_path, Quiet(), site.url)
    assert {name for name, _ in site.log} == {"all.zip", "table.csv"}


def test_one_missing_file_of_several_leaves_no_dataset(site: Site, tmp_path: Path) -> None:
    first = one_zip(site).remotes[0]
    second = Remote((RemoteFile(f"{site.url}/table.csv", "table.csv"),))
    declaration = replace(DECLARATIONS[DATASET], remotes=(first, second))
    with pytest.raises(ArchError, match=r"table\.csv cannot be downloaded"):
        fetch(declaration, tmp_path, Quiet())
    assert not (tmp_path / DATASET).exists()
    site.files["table.csv"] = b"a,b\n"
    fetch(declaration, tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == EXPECTED | {"table.csv": b"a,b\n"}
    assert (tmp_path / ".fetch").exists()
    assert not list((tmp_path / ".fetch").iterdir())


def test_a_full_disk_is_said_and_what_is_there_is_kept(site: Site, tmp_path: Path) -> None:
    declaration = one_zip(site)
    work = tmp_path / ".fetch" / DATASET
    work.mkdir(parents=True)
    # Every write to this device fails as on a disk without space.
    (work / "all.zip.part").symlink_to("/dev/full")
    with pytest.raises(ArchError, match=r"the disk of .* is full .*make room, and the same command goes on"):
        fetch(declaration, tmp_path, Quiet())
    assert not (tmp_path / DATASET).exists()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="only root can mount a small disk")
def test_a_small_disk(site: Site, tmp_path: Path) -> None:
    """The archive fits, what is in it does not; with more room the same call goes on."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a disk be mounted")
    try:
        declaration = one_zip(site)
        with pytest.raises(ArchError, match="is full"):
            fetch(declaration, small, Quiet())
        assert not (small / DATASET).exists()
        subprocess.run(["mount", "-o", "remount,size=2m", str(small)], check=True)
        fetch(declaration, small, Quiet())
        assert tree(small / DATASET) == EXPECTED
        assert len(site.log) == 1
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_an_interrupted_unpacking_is_done_again(site: Site, tmp_path: Path) -> None:
    declaration = one_zip(site)
    work = tmp_path / ".fetch" / DATASET
    half = work / "tree" / CLIPS[0]
    half.parent.mkdir(parents=True)
    half.write_bytes(content(CLIPS[0])[:100])
    (work / "all.zip").write_bytes(site.files["all.zip"])
    fetch(declaration, tmp_path, Quiet())
    assert site.log == []  # the download was whole
    assert tree(tmp_path / DATASET) == EXPECTED


def test_a_killed_fetch_goes_on(site: Site, tmp_path: Path) -> None:
    """The real command, killed without notice in the middle of a download."""
    site.files["VIVAE.zip"] = archive(*CLIPS, root="VIVAE/")
    site.slow = True
    command = [*ARCH, "data", "fetch", DATASET, "--mirror", site.url, "--data-root"]
    process = subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    part = tmp_path / ".fetch" / DATASET / "VIVAE.zip.part"
    until(lambda: part.exists() and part.stat().st_size > 0, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / DATASET).exists()
    assert part.exists()
    site.slow = False
    again = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert site.log[-1][1] is not None
    assert tree(tmp_path / DATASET) == EXPECTED


def test_a_release_that_is_not_what_it_should_be(site: Site, tmp_path: Path) -> None:
    declaration = one_zip(site, None)
    site.files["all.zip"] = archive("other/x.wav")
    with pytest.raises(ArchError, match=r"does not hold full_set/\*\.wav"):
        fetch(declaration, tmp_path, Quiet())
    assert not (tmp_path / DATASET).exists()
    fetch(one_zip(site, None), tmp_path, Quiet())  # mended by its publisher
    assert EXPECTED.items() <= tree(tmp_path / DATASET).items()


def test_what_may_not_be_fetched_says_what_to_do(tmp_path: Path) -> None:
    from arch_bench.main import app

    done = CliRunner().invoke(app, ["data", "fetch", "emovo", "--data-root", str(tmp_path)])
    assert done.exit_code == 1
    said = " ".join(done.output.split())
    assert "EMOVO is given by its authors only" in said
    assert "EMOVO/<speaker>/<emotion>-<speaker>-<sentence>.wav" in said


def test_every_dataset_asked_for_is_tried(site: Site, tmp_path: Path) -> None:
    from arch_bench.main import app

    command = ["data", "fetch", "vivae", "emovo", "esc50", "us8k", "vivae", "--mirror", site.url]
    command += ["--data-root", str(tmp_path)]
    site.files["ESC-50-master.zip"] = archive("meta/esc50.csv", "audio/1.wav", root="ESC-50-master/")
    first = CliRunner().invoke(app, command)
    site.files["VIVAE.zip"] = archive(*CLIPS, root="VIVAE/")
    second = CliRunner().invoke(app, command)
    for done, fetched, refused in ((first, "esc50", "VIVAE.zip"), (second, "vivae", "UrbanSound8K.tar.gz")):
        assert done.exit_code == 1
        said = " ".join(done.output.split())
        assert f"{fetched} is in {tmp_path / fetched}" in said
        assert f"{refused} cannot be downloaded: the server answers 404" in said
        assert "EMOVO is given by its authors only" in said
    assert f"{tmp_path / 'esc50'} is there already; arch data verify esc50 checks it" in " ".join(second.output.split())
    assert CliRunner().invoke(app, ["data", "fetch", "esc50", "--data-root", str(tmp_path)]).exit_code == 0


@pytest.mark.parametrize(
    ("identifier", "cure"), [("esc50", "move it away"), ("emovo", "EMOVO is given by its authors")]
)
def test_a_folder_that_is_not_whole_is_not_taken_for_fetched(tmp_path: Path, identifier: str, cure: str) -> None:
    from arch_bench.main import app

    folder = tmp_path / identifier
    folder.mkdir()
    (folder / "mine.txt").touch()
    done = CliRunner().invoke(app, ["data", "fetch", identifier, "--data-root", str(tmp_path)])
    assert done.exit_code == 1
    assert f"arch: {folder} is there already, but not whole: {cure}" in " ".join(done.output.split())
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_two_fetches_at_once(site: Site, tmp_path: Path) -> None:
    declaration = one_zip(site)
    refused: list[ArchError] = []

    class Second(Quiet):
        """Asks for the same dataset in the middle of the download."""

        def advance(self, name: str, count: int) -> None:
            assert name == "all.zip"
            if count and not refused:
                with pytest.raises(ArchError, match=r"is being fetched into .* by another call") as caught:
                    fetch(declaration, tmp_path, Quiet())
                refused.append(caught.value)

    fetch(declaration, tmp_path, Second())
    assert len(refused) == 1
    assert tree(tmp_path) == {f"{DATASET}/{name}": data for name, data in EXPECTED.items()}


def test_what_a_call_left_behind_does_not_pass_for_what_is_gone(site: Site, tmp_path: Path) -> None:
    """A call that was killed after its last move, and whose dataset was deleted since."""
    declaration = one_zip(site)
    work = tmp_path / ".fetch" / DATASET
    work.mkdir(parents=True)
    (work / "all.zip.installed").touch()
    fetch(declaration, tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == EXPECTED


@pytest.mark.parametrize("declaration", [one for one in DECLARATIONS.values() if one.id != "demo"], ids=lambda d: d.id)
def test_remotes_are_well_formed(declaration: Declaration) -> None:
    assert bool(declaration.remotes) != bool(declaration.manual)
    names = [file.name for remote in declaration.remotes for file in remote.files]
    assert len(names) == len(set(names))
    for remote in declaration.remotes:
        for file in remote.files:
            assert file.url.startswith("https://")
            if file.checksum is not None:
                algorithm, _, digest = file.checksum.partition(":")
                assert len(digest) == 2 * hashlib.new(algorithm).digest_size
                assert set(digest) <= set("0123456789abcdef")
