"""The examples run as a newcomer would run them, on a real Triton."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.triton, pytest.mark.ray, pytest.mark.torch]

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(folder: Path, script: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_script(tmp_path: Path) -> None:
    said = run(tmp_path, EXAMPLES / "encode_and_compare.py")
    assert "tiny-hubert: within" in said
    assert "100 embeddings of 64 dimensions" in said
    for transport in ("grpc", "shared-memory"):
        assert (tmp_path / "example" / transport / "report.html").is_file()
    # The way of the audio changes no embedding, beyond what batches of other sizes round.
    assert said.count("no more than noise") == 2


def test_the_notebook(tmp_path: Path) -> None:
    """Its cells, one after the other in one namespace; no Jupyter is needed."""
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join("".join(cell["source"]) for cell in cells), encoding="utf-8")
    said = run(tmp_path, script)
    assert str(Path("example/run/report.html")) in said
    assert said.count("points") == 2
    assert (tmp_path / "example" / "other" / "report.html").is_file()


@pytest.mark.parametrize("example", ["encode_and_compare.py", "quickstart.ipynb"])
def test_an_example_imports_nothing_of_ours_but_the_door(example: str) -> None:
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    if example.endswith(".ipynb"):
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
    assert {name for name in names if name.startswith("arch_")} == {"arch_bench"}
