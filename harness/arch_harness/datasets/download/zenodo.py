"""The checksums that Zenodo publishes for the files of its records."""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace

from arch_harness.datasets.download.remotes import Remote, RemoteFile

SITE = "https://zenodo.org"
_TIMEOUT_S = 20


def with_checksums(remotes: Sequence[Remote], on_note: Callable[[str], None]) -> list[Remote]:
    """Add the published MD5 to the files of Zenodo records that are declared without a checksum.

    Each record is asked for once. Where it cannot be read or gives none of a file, it stays without.

    Args:
        remotes: from anywhere; those that are not of Zenodo come back as they are.
        on_note: told of each record that cannot be read.
    """
    records: dict[str, dict[str, str]] = {}

    def checked(file: RemoteFile) -> RemoteFile:
        place = re.fullmatch(rf"{re.escape(SITE)}/records/(?P<record>\d+)/files/(?P<key>.+)", file.url)
        if place is None or file.checksum is not None:
            return file
        record = place["record"]
        if record not in records:
            try:
                records[record] = _checksums(record)
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
                if isinstance(error, urllib.error.HTTPError):
                    error.close()  # it holds the connection
                records[record] = {}
                on_note(f"the checksums of Zenodo record {record} cannot be read ({error}); going on without")
        return file._replace(checksum=records[record].get(place["key"]))

    return [replace(remote, files=tuple(map(checked, remote.files))) for remote in remotes]


def _checksums(record: str) -> dict[str, str]:
    """File name -> `md5:<hex>` of the record's files."""
    request = urllib.request.Request(  # noqa: S310
        f"{SITE}/api/records/{record}", headers={"User-Agent": "arch-bench", "Accept": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - of SITE only
        files = json.load(response)["files"]
    given = {str(file["key"]): str(file["checksum"]) for file in files}
    return {name: checksum for name, checksum in given.items() if re.fullmatch(r"md5:[0-9a-f]{32}", checksum)}
