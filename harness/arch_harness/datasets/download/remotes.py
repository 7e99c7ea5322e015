"""Where a dataset's files come from; data only, `fetch` does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")


class RemoteFile(NamedTuple):
    """A file to download; `checksum` is `<algorithm>:<hex>` as its publisher gives it, None where none is given."""

    url: str
    name: str
    checksum: str | None = None


@dataclass(frozen=True)
class Remote:
    """A file or archive that goes into the dataset's folder.

    Attributes:
        files: one file, or the parts of one archive in order, the one that names the archive last (`.z01`, `.zip`) or
            all numbered (`.zip.001`).
        destination: folder below the dataset's, empty for the dataset's own.
        strip_root: leave out the single folder that everything in the archive sits in.
    """

    files: tuple[RemoteFile, ...]
    destination: str = ""
    strip_root: bool = False

    @property
    def name(self) -> str:
        """What it is called on the terminal and on disk."""
        name = self.files[-1].name
        return name[: name.rindex(".")] if name.rsplit(".", 1)[1].isdigit() else name

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked."""
        return self.name.endswith(ARCHIVES)


def remote(url: str, checksum: str | None = None, *, destination: str = "", strip_root: bool = False) -> Remote:
    """A remote of one file, named as the last part of its URL."""
    return Remote((RemoteFile(url, url.rsplit("/", 1)[1], checksum),), destination, strip_root)


def zenodo(
    record: int, name: str, md5: str | None = None, *, destination: str = "", strip_root: bool = False
) -> Remote:
    """A remote of one file of a Zenodo record."""
    return Remote((zenodo_file(record, name, md5),), destination, strip_root)


def zenodo_file(record: int, name: str, md5: str | None = None) -> RemoteFile:
    """A file of a Zenodo record."""
    url = f"https://zenodo.org/records/{record}/files/{name}"
    return RemoteFile(url, name, None if md5 is None else f"md5:{md5}")


def github_archive(repository: str) -> Remote:
    """The tree of a GitHub repository's master branch. It has no published checksum: GitHub packs it on demand."""
    name = repository.rsplit("/", 1)[1]
    url = f"https://github.com/{repository}/archive/refs/heads/master.zip"
    return Remote((RemoteFile(url, f"{name}-master.zip"),), strip_root=True)
