"""Unpacking what was fetched: damaged, cut up, and with members that want to land elsewhere."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from arch_common.errors import ArchError
from arch_harness.datasets.download.fetch import fetch
from arch_harness.datasets.download.remotes import RemoteFile
from support.fetching import CLIPS, DATASET, EXPECTED, Quiet, archive, content, declare, one_zip, tree
from support.http_site import Site


def test_a_damaged_archive_is_deleted(site: Site, tmp_path: Path) -> None:
    declaration = one_zip(site, None)
    broken = bytearray(site.files["all.zip"])
    broken[5_000] ^= 0xFF
    site.files["all.zip"] = bytes(broken)
    with pytest.raises(ArchError, match=r"all\.zip is damaged: .*it was deleted"):
        fetch(declaration, tmp_path, Quiet())
    assert not (tmp_path / DATASET).exists()
    one_zip(site, None)
    fetch(declaration, tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == EXPECTED


@pytest.mark.parametrize("name", ["../evil.wav", "/tmp/evil.wav", "a/../../evil.wav", "..\\evil.wav", "C:\\evil.wav"])  # noqa: S108
def test_no_member_lands_outside(site: Site, tmp_path: Path, name: str) -> None:
    declaration = one_zip(site, None)
    site.files["all.zip"] = archive(*CLIPS, name)
    with pytest.raises(ArchError, match="would land outside the folder"):
        fetch(declaration, tmp_path, Quiet())
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".wav"]


def test_a_missing_part_of_a_split_zip_is_told(site: Site, tmp_path: Path) -> None:
    first, _, *rest = split_zip(archive(*CLIPS), 30_000)
    parts = ["audio.z01", "audio.z02", "audio.zip"]
    site.files |= dict(zip(parts, [first, *rest], strict=True))
    with pytest.raises(ArchError, match=r"audio\.zip is damaged: it has 4 parts, not 3"):
        fetch(declare(*(RemoteFile(f"{site.url}/{name}", name) for name in parts)), tmp_path, Quiet())
    assert not (tmp_path / DATASET).exists()


def tar_of_clips() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name in CLIPS:
            member = tarfile.TarInfo(name)
            member.size = len(content(name))
            file.addfile(member, io.BytesIO(content(name)))
    return buffer.getvalue()


_PACKED = gzip.compress(tar_of_clips())
_MEMBER = 512 + -(-len(content(CLIPS[0])) // 512) * 512


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("all.tar", tar_of_clips()[:_MEMBER]),
        ("all.tar", tar_of_clips()[: _MEMBER + 100]),
        ("all.tar", tar_of_clips()[: 2 * _MEMBER - 600]),
        ("all.tar.gz", gzip.compress(tar_of_clips()[:_MEMBER])),
        ("all.tar.gz", _PACKED[:-4]),
        ("all.tar.gz", _PACKED[: len(_PACKED) // 2]),
        ("all.tar.gz", _PACKED[:-5] + bytes([_PACKED[-5] ^ 1]) + _PACKED[-4:]),
        ("all.tar.gz", _PACKED[:50_000] + bytes([_PACKED[50_000] ^ 1]) + _PACKED[50_001:]),
    ],
    ids=["boundary", "header", "data", "gz boundary", "gz trailer", "gz half", "gz checksum", "gz data"],
)
def test_a_damaged_tar_archive_is_fetched_again(site: Site, tmp_path: Path, name: str, damaged: bytes) -> None:
    declaration = declare(RemoteFile(f"{site.url}/{name}", name))
    site.files[name] = damaged
    with pytest.raises(ArchError, match=r"is damaged: .*it was deleted, and the same command downloads it again"):
        fetch(declaration, tmp_path, Quiet())
    assert not (tmp_path / DATASET).exists()
    site.files[name] = _PACKED if name.endswith("gz") else tar_of_clips()
    fetch(declaration, tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == EXPECTED


def test_a_tar_archive_and_its_links(site: Site, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        link = tarfile.TarInfo("release/full_set/S01_fear_low_01.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
        for name in CLIPS:
            member = tarfile.TarInfo(f"release/{name}")
            member.size = len(content(name))
            file.addfile(member, io.BytesIO(content(name)))
    site.files["all.tar.gz"] = buffer.getvalue()
    fetch(declare(RemoteFile(f"{site.url}/all.tar.gz", "all.tar.gz"), strip_root=True), tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == EXPECTED
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


LEFTOVERS = (
    "__MACOSX/release/._full_set",
    "._release",
    ".DS_Store",
    "release/._full_set",
    "release/full_set/.DS_Store",
)


@pytest.mark.parametrize("name", ["all.zip", "all.tar"])
def test_what_systems_leave_in_an_archive_is_no_root_of_it_and_no_data(site: Site, tmp_path: Path, name: str) -> None:
    members = [*LEFTOVERS, "Thumbs.db", "release/full_set/desktop.ini", *(f"release/{clip}" for clip in CLIPS)]
    buffer = io.BytesIO()
    if name == "all.zip":
        with zipfile.ZipFile(buffer, "w") as file:
            for member in members:
                file.writestr(member, content(member.removeprefix("release/")))
    else:
        with tarfile.open(fileobj=buffer, mode="w") as packed:
            for member in members:
                entry = tarfile.TarInfo(f"./{member}")
                entry.size = len(content(member.removeprefix("release/")))
                packed.addfile(entry, io.BytesIO(content(member.removeprefix("release/"))))
    site.files[name] = buffer.getvalue()
    fetch(declare(RemoteFile(f"{site.url}/{name}", name), strip_root=True), tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == EXPECTED


def test_an_archive_that_wants_a_password_is_told(site: Site, tmp_path: Path) -> None:
    declaration = one_zip(site, None)
    locked = bytearray(site.files["all.zip"])
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        place = locked.index(start)
        locked[place + (6 if start == b"PK\x03\x04" else 8)] |= 1  # says that the first member is encrypted
    site.files["all.zip"] = bytes(locked)
    with pytest.raises(ArchError, match=r"all\.zip is damaged: .*encrypted"):
        fetch(declaration, tmp_path, Quiet())


def test_an_archive_cut_up_into_parts(site: Site, tmp_path: Path) -> None:
    whole = archive(*CLIPS)
    names = [f"mp3.zip.00{part}" for part in (1, 2, 3)]
    for part, name in enumerate(names):
        site.files[name] = whole[part * 30_000 : (part + 1) * 30_000] if part < 2 else whole[60_000:]
    fetch(declare(*(RemoteFile(f"{site.url}/{name}", name) for name in names)), tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == EXPECTED


def split_zip(whole: bytes, size: int) -> list[bytes]:
    """Cut a zip into disks as `zip -s` does: offsets count from the start of the disk that a member begins on."""
    disks = -(-len(whole) // size)
    split = bytearray(whole)
    end = whole.rindex(b"PK\x05\x06")
    place = struct.unpack_from("<L", whole, end + 16)[0]
    struct.pack_into("<2H", split, end + 4, disks - 1, place // size)
    struct.pack_into("<L", split, end + 16, place % size)
    while whole[place : place + 4] == b"PK\x01\x02":
        offset = struct.unpack_from("<L", whole, place + 42)[0]
        struct.pack_into("<H", split, place + 34, offset // size)
        struct.pack_into("<L", split, place + 42, offset % size)
        place += 46 + sum(struct.unpack_from("<3H", whole, place + 28))
    return [bytes(split[disk * size : (disk + 1) * size]) for disk in range(disks)]


def test_a_split_zip(site: Site, tmp_path: Path) -> None:
    names = [f"full_set/S{speaker:02d}_fear_low_01.wav" for speaker in range(1, 6)]
    disks = split_zip(archive(*names), 70_000)
    assert len(disks) == 4
    parts = [*(f"audio.z0{disk}" for disk in range(1, len(disks))), "audio.zip"]
    site.files |= dict(zip(parts, disks, strict=True))
    fetch(declare(*(RemoteFile(f"{site.url}/{name}", name) for name in parts)), tmp_path, Quiet())
    assert tree(tmp_path / DATASET) == {name: content(name) for name in names}


@pytest.mark.skipif(shutil.which("zip") is None, reason="the zip command, which makes split archives, is not here")
@pytest.mark.parametrize("zip64", [(), ("-fz",)])
def test_a_split_zip_of_the_zip_command(site: Site, tmp_path: Path, zip64: tuple[str, ...]) -> None:
    source = tmp_path / "source"
    for name in CLIPS:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content(name))
    subprocess.run(["zip", "-q", *zip64, "-r", "-s", "64k", "all.zip", "full_set"], cwd=source, check=True)
    parts = sorted(source.glob("all.z*"))  # .z01 sorts before .zip
    assert len(parts) == 2
    site.files |= {part.name: part.read_bytes() for part in parts}
    root = tmp_path / "root"
    fetch(declare(*(RemoteFile(f"{site.url}/{part.name}", part.name) for part in parts)), root, Quiet())
    assert tree(root / DATASET) == EXPECTED
