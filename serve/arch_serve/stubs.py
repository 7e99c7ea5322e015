"""What Triton's Python stubs ask of names, paths and the machine.

Triton starts the stub of each model by a line that it hands to a shell, without quotes: with a space or an `&` in it,
the server waits for a stub that never comes, and a `$(...)` is executed. Stub and server talk by shared memory.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arch_common.errors import ServeError
from arch_common.temporary import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - POSIX shared memory, not a temporary file
_GPUS = Path("/proc/driver/nvidia/gpus")
_MIB = 2**20
# Triton's names of data types end in the bits of a value.
_BITS = re.compile(r"\d+$")


@contextlib.contextmanager
def working_folder() -> Iterator[Path]:
    """A new folder whose path a shell takes as it is, and in which programs may be run; removed afterwards.

    Those of servers whose process was killed are removed first.

    Raises:
        ServeError: if there is no place for one.
    """
    parent = _place()
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder("arch-serve-", parent))
        except OSError as error:
            raise ServeError(f"cannot write to {parent}: {error.strerror}; TMPDIR names another place") from error
        yield folder


def _place() -> Path:
    with contextlib.suppress(FileNotFoundError):  # nothing can be written to
        for place in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - only to make a folder of our own in
            plain = all(_is_plain(part) for part in place.split("/"))
            if plain and os.access(place, os.W_OK | os.X_OK) and not os.statvfs(place).f_flag & os.ST_NOEXEC:
                return Path(place)
    raise ServeError(
        "there is no folder to run a server in: set TMPDIR to one that can be written to and is not mounted noexec, "
        "with nothing but ASCII letters, digits, dots, dashes and underscores in its path"
    )


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9._-]*", name) is not None


def read_config(model: Path) -> Any:
    """The `config.pbtxt` in a model's folder as Triton's protobuf message; None where it cannot be read."""
    # They come with the server. Importing them takes a while, and what runs in NVIDIA's container does not need them.
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    try:
        text = (model / "config.pbtxt").read_text(encoding="utf-8")
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except (OSError, ValueError, text_format.ParseError):
        return None


def refusal(name: str, config: Any) -> str:
    """Why no stub can be started for a model; empty if one can.

    Args:
        name: of the model.
        config: from `read_config`.
    """
    for what, word in (("name", name), ("default_model_filename", config.default_model_filename if config else "")):
        # Letters of any script are no special characters of a shell.
        bad = [
            one for one in word if not (_is_plain(one) if one.isascii() else one.isprintable() and not one.isspace())
        ]
        if bad:
            return (
                f"a model's {what} must be of letters, digits, dots, dashes and underscores to be served here, without "
                f"{''.join(dict.fromkeys(bad))!r}: rename it, in config.pbtxt too"
            )
    return ""


def check_shared_memory(configs: Iterable[Any]) -> None:
    """Refuse what would end in a crash of Triton: it does not look whether it was given the memory.

    Args:
        configs: from `read_config`, of the models that are to be loaded together.

    Raises:
        ServeError: if there is less than their stubs take until they are loaded, warm-up included.
    """
    needed = sum(_shared_memory(config) for config in configs)
    try:
        disk = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        raise ServeError(f"Triton's Python backend needs {SHARED_MEMORY}: {error.strerror}") from error
    free = disk.f_bavail * disk.f_frsize
    if free < needed:
        raise ServeError(
            f"{SHARED_MEMORY} has {free // _MIB} MiB free, and these models take {needed // _MIB} of it to load: make "
            "it larger (docker run --shm-size=1g; as root: mount -o remount,size=1g /dev/shm), or serve fewer with "
            "--model"
        )


def _shared_memory(config: Any) -> int:
    """Bytes: each instance takes one MiB, and then what its largest batch needs, in whole MiB."""
    if config is None:
        return _MIB
    batches = [one.batch_size * sum(map(_input_bytes, one.inputs.values())) for one in config.model_warmup]
    instances = sum(max(1, int(group.count)) * _places(group) for group in config.instance_group) or 1
    return instances * _MIB * (1 + math.ceil(max(batches, default=0) / _MIB))


def _places(group: Any) -> int:
    """GPUs that each have the instances of a group; 1 on a CPU."""
    if group.Kind.Name(group.kind) not in ("KIND_GPU", "KIND_AUTO"):
        return 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = len(list(_GPUS.glob("*"))) if visible is None else len([one for one in visible.split(",") if one])
    return len(group.gpus) or max(1, there)


def _input_bytes(tensor: Any) -> int:
    data_types = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    bits = _BITS.search(data_types[tensor.data_type].name)
    return int(math.prod(tensor.dims)) * (int(bits[0]) // 8 if bits else 1)
