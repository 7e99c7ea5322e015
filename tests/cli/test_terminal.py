"""What the terminal shows of names with brackets, names that are no text, and where it has not every letter."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import arch_bench
import pytest
import typer
from arch_bench.main import app
from support.commands import ARCH, arch

# Is no UTF-8, and is no markup, a picture or a closing tag either.
HOSTILE = b"caf\xe9 [red]x[/b] :dog: [/]"


def commands(command: Any, name: str = "") -> list[tuple[str, Any]]:
    below = getattr(command, "commands", {})
    found = [(name, command)]
    for word, one in below.items():
        found += commands(one, f"{name} {word}".strip())
    return found


@pytest.mark.parametrize(("name", "command"), commands(typer.main.get_command(app)))
def test_help_shows_every_word_of_every_option(name: str, command: Any) -> None:
    done = arch(*name.split(), "--help", env=os.environ | {"COLUMNS": "80"})
    shown = re.sub(r"\s", "", done.stdout)
    texts = [option.help for option in command.params if getattr(option, "help", None)]
    assert [text for text in texts if re.sub(r"\s", "", text) not in shown] == []


def test_help_names_the_folder_that_a_run_goes_to_by_default() -> None:
    assert "[reports/<time>]" in arch("bench", "--help").stdout


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "caf? [red]x[/b] :dog: [/]"), ("latin-1", "caf? [red]x[/b] :dog: [/]")]
)
def test_names_are_shown_as_they_are_or_with_a_mark_for_what_is_no_letter(
    tmp_path: Path, encoding: str, shown: str
) -> None:
    folder = os.fsencode(tmp_path) + b"/" + HOSTILE
    environment = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "40"}
    listed = subprocess.run(
        [*ARCH, "cache", "list", "--cache", folder], capture_output=True, env=environment, check=True
    )
    assert listed.stdout.decode(encoding) == f"no embeddings in {tmp_path}/{shown}\n"
    refused = subprocess.run([*ARCH, "probe", folder], capture_output=True, env=environment, check=False)
    assert refused.returncode == 2
    assert refused.stderr.decode(encoding) == (
        f"arch: {tmp_path}/{shown} holds no results.json; name a folder that arch bench wrote\n"
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_gets_no_letter_that_it_does_not_have(tmp_path: Path, encoding: str) -> None:
    for index in range(8):
        (tmp_path / "ds" / "寺院"[index % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "ds" / "寺院"[index % 2] / f"{index}.wav").touch()
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*ARCH, "data", "info", str(tmp_path / "ds")], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert ("寺" in text) == (encoding == "utf-8")
    assert ("┏" in text) == (encoding == "utf-8")
    assert ("+--" in text) != (encoding == "utf-8")


COMMANDS = sorted((Path(arch_bench.__file__).parent / "commands").glob("*.py"))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_every_command_prints_on_the_consoles_that_take_names_as_they_are(path: Path) -> None:
    made = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console"
    ]
    assert made == []


def test_labels_and_titles_with_brackets_are_no_markup(tmp_path: Path) -> None:
    for label in ("[bold]", "[cel]", ":dog:"):
        (tmp_path / "[ds]" / label).mkdir(parents=True)
        for index in range(3):
            (tmp_path / "[ds]" / label / f"[red]{index}.wav").write_text("no audio")
    (tmp_path / "[ds]" / "dataset.yaml").write_text("id: ds\ntitle: '[/red]'\n")
    shown = arch("data", "info", str(tmp_path / "[ds]"), env=os.environ | {"COLUMNS": "200"}).stdout
    assert all(text in shown for text in ("[bold]", "[cel]", ":dog:", "[/red]"))
    faults = arch("data", "verify", str(tmp_path / "[ds]"), env=os.environ | {"COLUMNS": "200"}).stdout
    assert "[cel]/[red]0.wav" in faults


def test_what_is_not_known_of_a_dataset_is_said_in_80_columns() -> None:
    lines = arch("data", "list", env=os.environ | {"COLUMNS": "80"}).stdout.splitlines()
    assert max(map(len, lines[1:-1])) <= 80
    cells = {line.split()[0]: line.split()[3:6] for line in lines[2:-1]}
    assert cells["vivae"] == ["6", "1,085", "unknown"]
    assert cells["mtt"] == ["50", "unknown", "unknown"]
    assert cells["emovo"] == ["7", "588", "-"]
    assert cells["esc50"] == ["50", "2,000", "0.6"]


@pytest.mark.parametrize("command", [["data", "list"], ["--version"]])
def test_a_full_disk_under_the_output_is_one_line(command: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([*ARCH, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "arch: cannot write the output: No space left on device\n")


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    # The shell enters the folder and removes it, as another process may at any time.
    (tmp_path / "gone").mkdir()
    script = f'cd "$1/gone" && rmdir "$1/gone" && exec {" ".join(ARCH)} serve --repository models'
    done = subprocess.run(["sh", "-c", script, "sh", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "arch: the folder that this was started in is gone: change to another\n"
