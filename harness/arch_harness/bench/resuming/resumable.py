"""What fails in the middle of a run says how the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from arch_common.errors import ArchError, UsageError


@contextmanager
def resumable(how: str, kept: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Say of a failure in the block that what was done is kept, and what goes on from there.

    Args:
        how: what does.
        kept: whether anything was; asked when the block fails.

    Raises:
        ArchError: what the block raises, with that behind it; a UsageError stays as it is.
    """
    try:
        yield
    except UsageError:
        raise
    except ArchError as error:
        if not kept():
            raise
        raise ArchError(f"{error}; what was done is kept, and {how} goes on from there") from error
