"""The documentation: every link leads somewhere, every command in it exists, and the README stays short."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import unknown

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        ROOT / "model_repository" / "README.md",
    ]
)
README_LINES = 100
SHELLS = ("sh", "console", "bash")

_FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"\b((?:benchmarks|cli|common|docs|examples|export|harness|serve|scripts|tests)/[\w./-]+\w/?)")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings: lower case, no punctuation, dashes for spaces, a number from the second."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ +(.*?) *$", prose(page), re.MULTILINE):
        text = _LINK.sub("]", heading).replace("[", "").replace("]", "")
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found[anchor] = found.get(anchor, -1) + 1
        names.add(f"{anchor}-{found[anchor]}" if found[anchor] else anchor)
    return names


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    """In backticks, from the root: `harness/arch_harness/results/metric_definitions.py`, say."""
    if page.name == "CHANGELOG.md":  # it names what is gone
        return
    for span in _CODE.findall(prose(page)):
        for path in _PATH.findall(span):
            assert (ROOT / path).exists(), path


def test_the_tree_in_the_architecture_is_the_tree() -> None:
    """Every folder of the parts has its line, and every line its folder."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.partition("## The tree")[2].partition("```\n")[2].partition("```")[0]
    drawn: set[str] = set()
    above: list[str] = []
    for indent, folder in re.findall(r"^( *)([\w/]+)/ ", tree, re.MULTILINE):
        above[len(indent) // 4 :] = [folder]
        drawn.add("/".join(above))
    missing = {folder for folder in drawn if not (ROOT / folder).is_dir()}
    assert not missing
    packages = {
        name(path.parent)
        for part in ("common", "export", "serve", "harness", "cli")
        for path in (ROOT / part).rglob("__init__.py")
    }
    assert packages <= drawn, packages - drawn


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `arch ...` in blocks of shell and in sentences; a line that ends in a backslash goes on."""
    blocks = _FENCE.findall(page.read_text(encoding="utf-8"))
    lines = [
        line for language, block in blocks if language in SHELLS for line in block.replace("\\\n", " ").splitlines()
    ]
    for line in map(str.strip, [*lines, *_CODE.findall(prose(page))]):
        if re.match(r"(\S*/)?(arch|arch-bench) [^A-Z]", line):
            yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_exists(page: Path) -> None:
    for words in commands(page):
        assert unknown(words) == [], shlex.join(["arch", *words])


def test_commands_that_do_not_exist_are_found() -> None:
    assert unknown(["bench", "--dataset", "esc50", "--colour"]) == ["--colour"]
    assert unknown(["data", "destroy", "esc50"]) == ["destroy"]
    assert sum(len(list(commands(page))) for page in PAGES) > 10
