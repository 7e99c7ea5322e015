"""From what is asked for on the command line to a dataset: an id, ID=PATH, a description, or a folder."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from arch_common.errors import ArchError, UsageError

from arch_harness.datasets import load_dataset
from arch_harness.datasets.catalog import DECLARATIONS
from arch_harness.datasets.custom import declare_custom
from arch_harness.datasets.dataset import FIXTURE_FILE, STRICT, Dataset, with_strict_split
from arch_harness.datasets.declaration import Declaration

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
        raise UsageError(f"unknown dataset {identifier!r}; known: {', '.join(sorted(declarations()))}")
    return DECLARATIONS.get(identifier) or declarations()[identifier]


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
    identifier, given, path = argument.partition("=")
    named_strict = identifier.endswith(STRICT)
    identifier = identifier.removesuffix(STRICT)
    if "/" in identifier:  # a folder may have such a name, an id has not
        given = ""
    is_path = "/" in argument or argument.endswith((".yaml", ".yml")) or Path(argument).is_dir()
    if not given and is_path and not _is_known(identifier):
        where = Path(argument).expanduser()
        declaration, folder = declare_custom(where)
        reference = str(where.resolve())
        if _is_known(declaration.id):
            raise UsageError(
                f"{argument} would have the id {declaration.id!r} of a dataset that arch knows; give it another with "
                f"`id:` in a .yaml file, or mean that one with --dataset {declaration.id}={argument}"
            )
    else:
        declaration = find_declaration(identifier)
        folder = Path(path).expanduser() if path else data_root / identifier
        reference = ""
        if named_strict and isinstance(declaration.strict, str):
            raise UsageError(f"{identifier}: no stricter split: {declaration.strict}")
    return load_dataset(with_strict_split(declaration) if strict or named_strict else declaration, folder, reference)


def presence(declaration: Declaration, folder: Path) -> str:
    """Whether a dataset is in a folder: yes, no, fetch begun, incomplete, fixture, or by hand (not to be fetched)."""
    if not folder.is_dir():
        begun = (folder.parent / ".fetch" / declaration.id).is_dir()
        return "fetch begun" if begun else "no" if declaration.remotes else "by hand"
    if (folder / FIXTURE_FILE).is_file():
        return "fixture"
    whole = all(next(folder.glob(pattern), None) is not None for pattern in declaration.files)
    return "yes" if whole else "incomplete"
