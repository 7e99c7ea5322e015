"""The rules of the house: who may import whom, no circle, rooms that can be overseen, each public name once."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "arch_common": ROOT / "common",
    "arch_export": ROOT / "export",
    "arch_serve": ROOT / "serve",
    "arch_harness": ROOT / "harness",
    "arch_bench": ROOT / "cli",
}
PARTS = {"arch_export", "arch_serve", "arch_harness"}
MOST_LINES = 400
MOST_FILES = 12
# One file a dataset, and one a command.
WIDE = {"arch_harness/datasets/catalog", "arch_bench/commands"}


def sources(package: str) -> list[Path]:
    return sorted((PACKAGES[package] / package).rglob("*.py"))


def imported(node: ast.AST) -> set[str]:
    """The top-level packages that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").split(".")[0]} if not node.level else set()
    return {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()


def test_the_contracts_of_imports_hold() -> None:
    """The layers and the independent parts are declared in pyproject.toml."""
    lint = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", lint.stdout), lint.stdout


@pytest.mark.parametrize("package", sorted(PARTS))
def test_the_parts_do_not_import_one_another(package: str) -> None:
    for path in sources(package):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not imported(node) & (PARTS | {"arch_bench"}) - {package}, f"{path}:{node.lineno}"  # type: ignore[attr-defined]


def test_there_is_no_circle_of_imports() -> None:
    graph = grimp.build_graph(*PACKAGES, include_external_packages=False, exclude_type_checking_imports=False)
    modules = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(modules).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", sorted({*PARTS, "arch_common"}))
def test_no_import_hides_in_a_function_to_dodge_a_circle(package: str) -> None:
    """The commands import a part when they run; a part has no such reason to import its own modules late."""
    for path in sources(package):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                late = [node for node in ast.walk(function) if imported(node) & set(PACKAGES)]
                assert not late, f"{path}:{late[0].lineno}"  # type: ignore[attr-defined]


def test_commands_are_a_thin_layer_over_the_api() -> None:
    """What a command does, a Python program can do: the commands import no part, except for the types of hints."""
    for path in (ROOT / "cli" / "arch_bench" / "commands").glob("*.py"):
        tree = ast.parse(path.read_text())
        hints = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
        for node in [node for node in ast.walk(tree) if not any(node in ast.walk(hint) for hint in hints)]:
            assert not imported(node) & PARTS, f"{path}:{node.lineno}"  # type: ignore[attr-defined]


def test_folders_and_files_can_be_overseen() -> None:
    for package, folder in PACKAGES.items():
        files = defaultdict(list)
        for path in sources(package):
            files[path.parent.relative_to(folder).as_posix()].append(path.name)
            assert len(path.read_text().splitlines()) <= MOST_LINES, path
        for name, found in files.items():
            assert len(found) <= MOST_FILES or name in WIDE, (name, found)


def test_a_public_class_has_a_name_of_its_own() -> None:
    places = defaultdict(list)
    for package in PACKAGES:
        for path in sources(package):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_drawing_is_of_the_imports_as_they_are() -> None:
    path = ROOT / "scripts" / "draw_imports.py"
    spec = importlib.util.spec_from_file_location("draw_imports", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text() == script.page(script.imports()), "run python scripts/draw_imports.py"
