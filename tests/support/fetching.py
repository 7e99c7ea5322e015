"""What the tests of fetching share: a small dataset, as archives and as it lies on the disk."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.datasets.declaration import Declaration
from arch_harness.datasets.download.remotes import Remote, RemoteFile
from support.http_site import Site

DATASET = "vivae"


class Quiet:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def start(self, name: str, total: int | None, done: int) -> None: ...

    def advance(self, name: str, count: int) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def archive(*names: str, root: str = "") -> bytes:
    """A zip of incompressible members, each named after its content's seed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(root + name, content(name))
    return buffer.getvalue()


def content(name: str) -> bytes:
    return b"".join(hashlib.sha256(f"{name} {block}".encode()).digest() for block in range(1500))


CLIPS = ("full_set/S01_fear_low_01.wav", "full_set/S02_fear_low_01.wav")


def declare(*files: RemoteFile, **options: Any) -> Declaration:
    return replace(DECLARATIONS[DATASET], remotes=(Remote(files, **options),))


def one_zip(site: Site, checksum: str | None = "right") -> Declaration:
    site.files["all.zip"] = archive(*CLIPS)
    if checksum == "right":
        checksum = f"md5:{hashlib.md5(site.files['all.zip']).hexdigest()}"  # noqa: S324
    return declare(RemoteFile(f"{site.url}/all.zip", "all.zip", checksum))


def one_table(site: Site, checksum: str | None = None) -> Declaration:
    declaration = declare(RemoteFile(f"{site.url}/table.tsv", "table.tsv", checksum))
    return replace(declaration, files=("table.tsv",))


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EXPECTED = {name: content(name) for name in CLIPS}
