"""`arch data fetch`: download, check and unpack a dataset; its folder appears only when all of it is there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import BinaryIO, Protocol

from arch_common.errors import ArchError, DamagedArchiveError, UsageError
from filelock import FileLock, Timeout

from arch_harness.datasets.declaration import Declaration
from arch_harness.datasets.download.archives import unpack
from arch_harness.datasets.download.remotes import Remote, RemoteFile
from arch_harness.datasets.download.zenodo import with_checksums
from arch_harness.datasets.listing import missing_pattern

CONNECTIONS = 4
_BLOCK_BYTES = 1 << 18
_TIMEOUT_S = 60
# In a row without a byte of progress; what was downloaded is kept and the next attempt goes on from there.
_ATTEMPTS = 4
_PAUSE_S = 0.5


class Watch(Protocol):
    """Told of progress; the methods are called from several threads."""

    def start(self, name: str, total: int | None, done: int) -> None:
        """A download of `total` bytes (None: not told) begins or goes on after `done` bytes."""

    def advance(self, name: str, count: int) -> None:
        """So many more bytes were downloaded."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class Silent:
    """A `Watch` that tells nobody."""

    def start(self, name: str, total: int | None, done: int) -> None:
        """Nothing is shown."""

    def advance(self, name: str, count: int) -> None:
        """Nothing is shown."""

    def note(self, text: str) -> None:
        """Nothing is shown."""


class _CutError(Exception):
    """The connection ended before the file did."""


def fetch(declaration: Declaration, data_root: Path, watch: Watch, mirror: str | None = None) -> Path:
    """Download a dataset into `data_root/<id>`.

    Everything is prepared in `data_root/.fetch/<id>` and moved into place at the very end; what an interrupted call
    leaves there the next one uses.

    Args:
        declaration: of the dataset.
        data_root: where the folder of the dataset goes.
        watch: told of progress.
        mirror: base URL; files are taken from `<mirror>/<id>/<name>` instead of their own places.

    Returns:
        The dataset's folder.

    Raises:
        UsageError: if there is nothing to fetch it from, or its folder is there already.
        ArchError: if a download fails, a checksum differs, an archive is damaged or the disk is full.
    """
    target = data_root / declaration.id
    already = f"{target} is there already; arch data verify {declaration.id} checks it"
    if target.exists():
        raise UsageError(already)
    if not declaration.remotes:
        raise UsageError(f"{declaration.id} cannot be fetched. {declaration.manual} Put it into {target}")
    work = data_root / ".fetch" / declaration.id
    try:
        work.mkdir(parents=True, exist_ok=True)
        with _locked(work / "lock", declaration.id):
            if target.exists():  # another call has just ended
                raise UsageError(already)
            _prepare(declaration, work, watch, mirror).rename(target)
            shutil.rmtree(work, ignore_errors=True)  # the dataset is in place, whatever may be left here
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            free = shutil.disk_usage(data_root).free / 1e9
            raise ArchError(
                f"{declaration.id}: the disk of {data_root} is full ({free:.1f} GB free); make room, and the same "
                "command goes on from here"
            ) from error
        raise ArchError(f"{declaration.id}: cannot write below {data_root}: {error.strerror or error}") from error
    return target


@contextlib.contextmanager
def _locked(path: Path, identifier: str) -> Iterator[None]:
    """Keep other calls out of the folder that `path` is in; the lock ends with the process, however that ends."""
    held = FileLock(path)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise ArchError(f"{identifier} is being fetched into {path.parent} by another call; wait for it") from error
    try:
        yield
    finally:
        held.release()


def _prepare(declaration: Declaration, work: Path, watch: Watch, mirror: str | None) -> Path:
    """Download and unpack everything; the folder that holds it."""
    tree = work / "tree"
    if not tree.exists():  # what was installed there went away with it
        _forget_installed(work)
        tree.mkdir()
    pending = [remote for remote in declaration.remotes if not _marker(work, remote).exists()]
    if mirror is None:
        pending = [
            # A file that is here already was not compared, so that it must not pass for one of the right checksum.
            remote if any((work / file.name).exists() for file in remote.files) else published
            for remote, published in zip(pending, with_checksums(pending, watch.note), strict=True)
        ]
    files = [file for remote in pending for file in remote.files]
    stop = threading.Event()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        downloads = [pool.submit(_download, _Source.of(file, declaration, mirror), work, watch, stop) for file in files]
        try:
            done, _ = wait(downloads, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    for download in (*done, *downloads):
        if not download.cancelled():
            download.result()
    for remote in pending:
        _install(remote, work, tree, watch)
    absent = missing_pattern(tree, declaration.files)
    if absent is not None:
        _forget_installed(work)
        raise ArchError(
            f"{declaration.id}: what was fetched does not hold {absent}; it lies in {tree}, and the same command "
            "fetches it again"
        )
    return tree


def _forget_installed(work: Path) -> None:
    for marker in work.glob("*.installed"):
        marker.unlink()


@dataclass(frozen=True)
class _Source:
    """A file, and where it is really taken from."""

    file: RemoteFile
    url: str

    @staticmethod
    def of(file: RemoteFile, declaration: Declaration, mirror: str | None) -> _Source:
        url = file.url if mirror is None else f"{mirror.rstrip('/')}/{declaration.id}/{file.name}"
        if not url.startswith(("https://", "http://")):
            raise UsageError(f"{url} is no http address")
        return _Source(file, url)


def _marker(work: Path, remote: Remote) -> Path:
    return work / f"{remote.name}.installed"


def _download(source: _Source, work: Path, watch: Watch, stop: threading.Event) -> None:
    """Download a file to `work/<name>`; until it is whole and its checksum fits it is `<name>.part`."""
    whole, part = work / source.file.name, work / f"{source.file.name}.part"
    if whole.exists():
        return
    failures = 0
    most = _size(part)  # not what the last attempt left: one that begins again and again must come to an end
    while not stop.is_set():
        try:
            _transfer(source, part, watch, stop)
            break
        except (_CutError, http.client.HTTPException, urllib.error.HTTPError) as error:
            if stop.is_set():
                return
            _raise_if_final(source, error)
            reason = getattr(error, "reason", None) or error
            grown = _size(part) > most
            most = max(most, _size(part))
            failures = 0 if grown else failures + 1
            if failures >= _ATTEMPTS:
                raise ArchError(f"{source.url} cannot be downloaded: {reason}; the same command tries again") from error
            watch.note(f"{source.file.name}: {reason}; going on")
            time.sleep(_PAUSE_S * 2**failures)
    else:
        return
    _check(source, part)
    part.rename(whole)
    _version_file(part).unlink(missing_ok=True)


def _raise_if_final(source: _Source, error: Exception) -> None:
    """What trying again cannot mend: the server's refusals, but not its own troubles."""
    if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in {408, 416, 429}:
        raise ArchError(f"{source.url} cannot be downloaded: the server answers {error.code} {error.reason}") from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _version_file(part: Path) -> Path:
    return part.with_suffix(".version")


def _transfer(source: _Source, part: Path, watch: Watch, stop: threading.Event) -> None:
    """One attempt: append what is missing to `part`, or begin again where the server cannot go on."""
    version_file = _version_file(part)
    have = _size(part)
    version = version_file.read_text() if version_file.exists() else ""
    if not version and source.file.checksum is None:
        have = 0  # nothing would tell the end of one version from the end of another
    request = urllib.request.Request(source.url, headers={"User-Agent": "arch-bench", "Accept-Encoding": "identity"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
        if version:  # a file that changed since comes whole
            request.add_header("If-Range", version)
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310 - http(s) only, see _Source
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}" and _is_version(error.headers, version):
            return  # it was whole already
        part.unlink()
        raise _CutError("the file is not the one that was begun") from error
    except OSError as error:
        raise _CutError(str(getattr(error, "reason", error))) from error
    with response:
        total = response.length
        resumed = response.status == 206
        if resumed:
            start, total = _content_range(response.headers)
            # Some servers answer If-Range with a range of whatever the file is by now.
            same = start == have and _is_version(response.headers, version)
            if not same or (total is None and source.file.checksum is None):
                part.unlink(missing_ok=True)
                raise _CutError("the server cannot go on with the file that was begun")
        elif total is None and not response.chunked and source.file.checksum is None:
            raise ArchError(
                f"{source.url} cannot be downloaded: the server does not say how long it is, and there is no checksum, "
                "so a part of it could not be told from the whole"
            )
        done = have if resumed else 0
        watch.start(source.file.name, total, done)
        with part.open("ab" if resumed else "wb") as file:
            if not resumed:  # only now that nothing of another version is left in the part
                version_file.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "")
            done += _copy(response, file, lambda count: watch.advance(source.file.name, count), stop)
    if stop.is_set():
        raise _CutError("stopped")
    if total is not None and done < total:  # cut, or the server gives less at once than it is asked for
        raise _CutError(f"the connection was cut after {done:,} of {total:,} bytes")


def _content_range(headers: Message) -> tuple[int | None, int | None]:
    """First byte and length of the whole file from `Content-Range: bytes <first>-<last>/<length or *>` (RFC 9110)."""
    given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    if given is None:
        return None, None
    return int(given[1]), None if given[2] == "*" else int(given[2])


def _is_version(headers: Message, version: str) -> bool:
    """Whether nothing in an answer contradicts that it is of this version of the file."""
    answered = {headers.get("ETag"), headers.get("Last-Modified")} - {None}
    return not version or not answered or version in answered


def _copy(
    response: http.client.HTTPResponse, file: BinaryIO, on_bytes: Callable[[int], None], stop: threading.Event
) -> int:
    copied = 0
    while not stop.is_set():
        try:
            block = response.read1(_BLOCK_BYTES)  # what there is: a kill must lose little
        except OSError as error:  # the network's; those of the disk are raised below
            raise _CutError(error.strerror or str(error)) from error
        if not block:
            break
        file.write(block)
        copied += len(block)
        on_bytes(len(block))
    return copied


def _check(source: _Source, part: Path) -> None:
    """Compare with the published checksum; a file that differs is deleted.

    Raises:
        ArchError: if it differs.
    """
    if source.file.checksum is None:
        return
    algorithm, _, wanted = source.file.checksum.partition(":")
    with part.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != wanted:
        part.unlink()
        raise ArchError(
            f"{source.url}: its {algorithm} is {found}, not the published {wanted}; it was deleted, and the same "
            "command downloads it again"
        )


def _install(remote: Remote, work: Path, tree: Path, watch: Watch) -> None:
    """Unpack or move a whole download into the tree, then mark it as installed and delete it."""
    parts = [work / file.name for file in remote.files]
    destination = tree / remote.destination
    if remote.is_archive:
        watch.note(f"unpacking {remote.name}")
        try:
            unpack(parts, destination, remote.strip_root)
        except DamagedArchiveError as error:
            if all(file.checksum for file in remote.files):  # not the download is at fault, then
                raise DamagedArchiveError(f"{error}, though its checksum is right; it is kept in {work}") from error
            for part in parts:
                part.unlink(missing_ok=True)
            raise DamagedArchiveError(f"{error}; it was deleted, and the same command downloads it again") from error
    else:
        destination.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(parts[0], destination / parts[0].name)
    _marker(work, remote).touch()
    for part in parts:
        with contextlib.suppress(OSError):
            part.unlink()
