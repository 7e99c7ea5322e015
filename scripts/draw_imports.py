"""Draws which folder imports which into docs/architecture.md, and prints what can be counted of the imports.

`python scripts/draw_imports.py`. The graph is grimp's, imports for type hints and in functions included.
"""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
START, END = "<!-- imports: written by scripts/draw_imports.py -->", "<!-- imports: end -->"
FOLDERS = {
    "arch_bench": "cli",
    "arch_export": "export",
    "arch_serve": "serve",
    "arch_harness": "harness",
    "arch_common": "common",
}


def imports() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""
    graph = grimp.build_graph(*FOLDERS, exclude_type_checking_imports=False)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in sorted(graph.modules)}


def room(module: str) -> str:
    """What a module is drawn as: its folder in the part, or the part."""
    package, *rest = module.split(".")
    # Commands and the API that they call are one thing to look at.
    is_folder = bool(rest) and package != "arch_bench" and (ROOT / FOLDERS[package] / package / rest[0]).is_dir()
    return f"{package}.{rest[0]}" if is_folder else package


def drawing(graph: Mapping[str, set[str]]) -> Iterator[str]:
    """The lines of a Mermaid chart of the rooms, from the command line down."""
    # Everything imports what is shared; drawn, that would hide the rest.
    arrows = {
        (room(module), room(other))
        for module, others in graph.items()
        for other in others
        if "arch_common" not in (room(module), room(other)) and room(module) != room(other)
    }
    rooms = sorted({name for arrow in arrows for name in arrow})
    yield "```mermaid"
    yield "flowchart TD"
    for package, folder in FOLDERS.items():
        if package == "arch_common":
            continue
        yield f"  subgraph {folder}"
        yield from (f"    {name}[{name.split('.')[-1]}]" for name in rooms if name.split(".")[0] == package)
        yield "  end"
    yield from (f"  {start} --> {end}" for start, end in sorted(arrows))
    yield "```"


def counts(graph: Mapping[str, set[str]]) -> Iterator[str]:
    """What can be counted, a line each.

    Raises:
        graphlib.CycleError: if there is a circle; it names the modules.
    """
    floors: dict[str, int] = {}
    for module in graphlib.TopologicalSorter(graph).static_order():
        floors[module] = 1 + max((floors[other] for other in graph[module]), default=0)
    files = {path for package, folder in FOLDERS.items() for path in (ROOT / folder / package).rglob("*.py")}
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for path in files)
    lines = Counter({path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in files})
    yield f"{len(files)} files in {len(folders)} folders, {sum(map(len, graph.values()))} imports between files"
    yield f"no circle; {max(floors.values())} floors"
    yield "most files in a folder: " + ", ".join(f"{name} {count}" for name, count in folders.most_common(3))
    yield "longest files: " + ", ".join(f"{name} {count}" for name, count in lines.most_common(3))


def page(graph: Mapping[str, set[str]]) -> str:
    """docs/architecture.md with the drawing as it is now."""
    head, rest = PAGE.read_text(encoding="utf-8").split(START)
    return "\n".join([head + START, *drawing(graph), END]) + rest.split(END)[1]


if __name__ == "__main__":
    found = imports()
    PAGE.write_text(page(found), encoding="utf-8")
    print(*counts(found), sep="\n")  # noqa: T201
