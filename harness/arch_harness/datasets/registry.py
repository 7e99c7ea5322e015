"""From what is asked for on the command line to a dataset: an id, ID=PATH, a description, or a folder."""

from __future__ import annotations

import difflib
import os
import reprlib
from importlib.metadata import entry_points
from pathlib import Path

from arch_common.errors import ArchError, UsageError

from arch_harness.datasets import load_dataset
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.datasets.custom import declare_custom
from arch_harness.datasets.dataset import FIXTURE_FILE, STRICT, Dataset, with_strict_split
from arch_harness.datasets.declaration import Declaration
from arch_harness.datasets.listing import missing_pattern, printable

# A package adds a dataset with an entry point of this group that names a Declaration.
ENTRY_POINTS = "arch_bench.datasets"


def declarations() -> dict[str, Declaration]:
    """All known declarations by id: the twelve, the demo's, and those of installed packages.

    Raises:
        ArchError: if an installed package's entry point cannot be used.
    """
    known = dict(DECLARATIONS)
    for point in entry_points(group=ENTRY_POINTS):
        whose = f"the dataset {point.name!r} of the package {(point.dist.name if point.dist else point.value)!r}"
        try:
            declaration = point.load()
        except Exception as error:
            raise ArchError(f"{whose} cannot be loaded ({error}); mend or uninstall the package") from error
        if not isinstance(declaration, Declaration):
            raise ArchError(f"{whose} is no arch_harness.datasets.Declaration; mend or uninstall the package")
        if declaration.id in known:
            raise ArchError(f"{whose} has the id {declaration.id!r}, which is taken; mend or uninstall the package")
        known[declaration.id] = declaration
    return known


def find_declaration(identifier: str) -> Declaration:
    """The declaration with this id.

    Raises:
        UsageError: if there is none.
    """
    if not _is_known(identifier):
        raise UsageError(f"unknown dataset {reprlib.repr(printable(identifier))}; {_hint(identifier)}")
    return DECLARATIONS.get(identifier) or declarations()[identifier]


def _hint(identifier: str) -> str:
    """What may be meant by an id that is none: by its letters, or as the title of a dataset."""
    known = declarations()
    wanted = _plain(identifier)
    spelled = {_plain(name): one.id for one in known.values() for name in (one.title, one.id)}
    near = dict.fromkeys(spelled[name] for name in difflib.get_close_matches(wanted, list(spelled), n=3, cutoff=0.7))
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(sorted(known))}; data of your own goes by the path of its folder or .yaml file"


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _is_known(identifier: str) -> bool:
    # What comes with arch does not wait for, or suffer from, what other packages bring.
    return identifier in DECLARATIONS or identifier in declarations()


def open_dataset(argument: str, data_root: Path, *, strict: bool = False) -> Dataset:
    """Index the dataset that `argument` names.

    The one place where what a user names becomes a dataset, whatever the command.

    Args:
        argument: an id, looked for in `data_root`; `ID=PATH`; or the path of one's own data. An id that ends in
            `@strict` asks for the stricter split, as the names of its results do.
        data_root: holds a folder for each id.
        strict: take the strict split where the dataset has one.

    Raises:
        UsageError: if there is no such dataset, or it is not as it must be.
    """
    identifier, named_strict, given, path = _parts(argument)
    own = not given and not _is_known(identifier)
    if own and named_strict and _is_path(identifier) and not os.path.exists(argument):  # noqa: PTH110 - no OSError
        raise UsageError(f"{identifier}: no stricter split: own data is split as it says itself; leave {STRICT} out")
    if own and _is_path(argument):
        where = Path(os.path.expanduser(argument))  # noqa: PTH111 - leaves a `~nobody` as it is
        declaration, folder = declare_custom(where)
        reference = os.path.realpath(where)
        if _is_known(declaration.id):
            raise UsageError(
                f"{argument} would have the id {declaration.id!r} of a dataset that arch knows; give it another with "
                f"`id:` in a .yaml file, or mean that one with --dataset {declaration.id}={argument}"
            )
    else:
        declaration = find_declaration(identifier)
        folder = Path(os.path.expanduser(path)) if path else data_root / identifier  # noqa: PTH111
        reference = ""
        if named_strict and isinstance(declaration.strict, str):
            raise UsageError(f"{identifier}: no stricter split: {declaration.strict}")
    return load_dataset(with_strict_split(declaration) if strict or named_strict else declaration, folder, reference)


def check_argument(argument: str) -> None:
    """Look whether an argument of `open_dataset` can name a dataset: whether arch knows its id. Nothing is read.

    Raises:
        UsageError: if it cannot.
    """
    identifier, _, given, _ = _parts(argument)
    if given or not _is_path(argument):
        find_declaration(identifier)


def _parts(argument: str) -> tuple[str, bool, str, str]:
    """The id or path, whether the stricter split is named, the `=` before a path or nothing, and that path.

    Raises:
        UsageError: if there is no path behind the `=`.
    """
    identifier, given, path = argument.partition("=")
    named_strict = identifier.endswith(STRICT)
    identifier = identifier.removesuffix(STRICT)
    if "/" in identifier:  # a folder may have such a name, an id has not
        given = ""
    if given and not path:  # as a variable of the shell that is not set leaves it
        raise UsageError(f"{argument} names no path behind the =; leave the = out to look below --data-root")
    return identifier, named_strict, given, path


def _is_path(argument: str) -> bool:
    """Whether it names data of one's own, and no id."""
    return "/" in argument or argument.endswith((".yaml", ".yml")) or os.path.isdir(argument)  # noqa: PTH112


def presence(declaration: Declaration, folder: Path) -> str:
    """Whether a dataset is in a folder: yes, no, fetch begun, incomplete, fixture, or by hand (not to be fetched)."""
    if not os.path.isdir(folder):  # noqa: PTH112
        begun = (folder.parent / ".fetch" / declaration.id).is_dir()
        return "fetch begun" if begun else "no" if declaration.remotes else "by hand"
    if (folder / FIXTURE_FILE).is_file():
        return "fixture"
    try:
        return "yes" if missing_pattern(folder, declaration.files) is None else "incomplete"
    except UsageError:  # a folder in it cannot be read; what comes of that, opening it says
        return "incomplete"
