"""Checkpoints on the Hugging Face hub: downloading what is needed of one."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from arch_common.errors import ExportError, ExportUsageError, reason_of

from arch_export.checkpoint.configuration import CONFIG, read_config
from arch_export.checkpoint.files import (
    MODEL_CARD,
    PREPROCESSOR,
    PROCESSOR,
    WEIGHTS,
    Checkpoint,
    licence_of,
    weight_files,
)

_ASKING_S = 10


def download(hub_id: str, name: str, on_warning: Callable[[str], None]) -> Checkpoint:
    """Bring the files of a checkpoint on the hub to this disk, or take those of an earlier download.

    Args:
        hub_id: `organisation/name`.
        name: what the exported model is called unless told otherwise.
        on_warning: told if the hub could not be reached and an earlier download is taken.

    Raises:
        ExportUsageError: if it is no checkpoint of a supported architecture.
        ExportError: if the hub does not have it or cannot be reached.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        info = HfApi().model_info(hub_id)
        files = {sibling.rfilename for sibling in info.siblings or []}
        if CONFIG not in files:
            raise ExportUsageError(f"{hub_id} has no {CONFIG}: it cannot be exported as an audio encoder")
        # Before gigabytes of weights: is it something that we can export?
        read_config(Path(hf_hub_download(hub_id, CONFIG)).parent, hub_id)
        patterns = [CONFIG, MODEL_CARD, PREPROCESSOR, PROCESSOR, *_weight_patterns(hub_id, files)]
        folder = Path(snapshot_download(hub_id, allow_patterns=patterns))
    except ExportError:
        raise
    except GatedRepoError as error:
        raise ExportError(f"{hub_id} asks for its terms to be accepted: do so on the hub, then set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise ExportUsageError(f"the hub has no model {hub_id}, or it is private: set HF_TOKEN") from error
    except Exception as error:  # the hub's client raises errors of its HTTP library, of the disk and of its own
        earlier = earlier_download(hub_id)
        if earlier is None:
            words = f"downloading {hub_id} failed ({reason_of(error)}): run the command again to go on"
            raise ExportError(words) from error
        on_warning(f"the hub does not answer for {hub_id} ({reason_of(error)}): taking the copy of an earlier download")
        folder = earlier
    # A snapshot's folder is named after its commit.
    return Checkpoint(folder, hub_id, folder.name, name, read_config(folder, hub_id), licence_of(folder))


def earlier_download(hub_id: str) -> Path | None:
    """The snapshot of an earlier download, if it is complete: the hub need not be reachable for it."""
    from huggingface_hub import snapshot_download

    for single, index in WEIGHTS:
        patterns = [
            CONFIG,
            PREPROCESSOR,
            PROCESSOR,
            *_weight_patterns(hub_id, {single}),
            *_weight_patterns(hub_id, {index}),
        ]
        try:
            folder = Path(snapshot_download(hub_id, local_files_only=True, allow_patterns=patterns))
            weight_files(folder)
        except (OSError, ExportUsageError):
            continue
        if (folder / CONFIG).is_file():
            return folder
    return None


def download_size(hub_id: str) -> int | None:
    """Bytes that `download` would fetch of weights; None where the hub does not tell, or does not answer."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(hub_id, files_metadata=True, timeout=_ASKING_S)
        sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
        wanted = _weight_patterns(hub_id, set(sizes))
    except Exception:  # whatever keeps it from telling; who downloads it will be told
        return None
    found = [size for name, size in sizes.items() if any(fnmatch(name, pattern) for pattern in wanted)]
    return sum(size for size in found if size) if found and None not in found else None


def download_folder() -> Path:
    """Where downloads go."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _weight_patterns(hub_id: str, files: set[str]) -> list[str]:
    for single, index in WEIGHTS:
        if single in files:
            return [single]
        if index in files:
            stem, suffix = single.rsplit(".", 1)
            return [index, f"{stem}-*.{suffix}"]
    raise ExportUsageError(f"{hub_id} holds no PyTorch weights")
