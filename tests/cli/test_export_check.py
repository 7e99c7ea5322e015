"""`arch export` on the command line: what it prints, and `--check`, which serves what was written."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from arch_bench.main import main
from arch_export.checkpoint.aliases import ALIASES

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("traced_once")]

Arch = Callable[..., tuple[int, str, str]]


@pytest.fixture
def arch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Arch:
    """The command line of `arch export`, in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["arch", "export", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.triton
@pytest.mark.slow
def test_check_serves_what_was_written(tmp_path: Path, checkpoint: Path, arch: Arch) -> None:
    code, out, errors = arch(
        str(checkpoint), "--repository", str(tmp_path), "--precision", "int8", "--layers", "all", "--check"
    )
    assert code == 0, errors
    assert "tiny-hubert-int8" in out
    rows = [line.split() for line in out.splitlines()]
    assert next(row for row in rows if row[:1] == ["tiny-hubert-int8"])[1:] == ["0", "M", "parameters,", "0", "MB"]
    assert [row[-3:] for row in rows if row[:2] == ["cosine", "to"]] == [["at", "least", "0.99"]]
    assert [row[-3:] for row in rows if row[:2] == ["relative", "error"]] == [["at", "most", "0.9"]]
    (line,) = [line for line in out.splitlines() if line.startswith("checked: ")]
    assert line.startswith("checked: Triton serves embedding, layer_embeddings of tiny-hubert-int8 in int8 on CPU")


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="a GPU is here")
def test_check_says_why_a_gpu_model_does_not_load_here(tmp_path: Path, checkpoint: Path, arch: Arch) -> None:
    code, _, errors = arch(str(checkpoint), "--repository", str(tmp_path), "--target", "gpu", "--check")
    assert code == 1
    (line,) = [line for line in errors.splitlines() if line.startswith("arch: ")]
    assert line.startswith("arch: tiny-hubert is installed, but Triton here cannot load it: ")
    assert "GPU" in line


def test_bad_combinations_are_one_line(tmp_path: Path, arch: Arch) -> None:
    code, _, errors = arch("logmel", "--repository", str(tmp_path / "none"), "--precision", "int8", "--target", "gpu")
    assert code == 2
    assert errors.strip() == "arch: int8 is for the target cpu, not gpu, which takes fp32 or fp16 or tf32 or bf16"


def test_the_list_names_every_alias_with_size_and_licence(arch: Arch) -> None:
    code, out, _ = arch("--list")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}  # at 80 columns
    for alias, one in ALIASES.items():
        assert all(part in rows[alias] for part in (one.checkpoint, f"{one.parameters_m} M", one.licence))


def test_the_limits_of_fp32_are_told_apart_from_1(tmp_path: Path, arch: Arch) -> None:
    code, out, errors = arch("logmel", "--repository", str(tmp_path / "models"))
    assert code == 0, errors
    rows = [line.split() for line in out.splitlines()]
    (cosine,) = [row for row in rows if row[:2] == ["cosine", "to"]]
    assert cosine == ["cosine", "to", "the", "original,", "mean", "1.00000000", "at", "least", "0.99999999"]
    assert out.isascii()


def test_brackets_in_paths_are_shown_as_they_are(tmp_path: Path, checkpoint: Path, arch: Arch) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "my [bold]" / "model [" / "b]")
    (folder / "preprocessor_config.json").unlink()
    repository = tmp_path / "models [/red]"
    code, out, errors = arch(str(folder), "--repository", str(repository), "--name", "mine")
    assert code == 0, errors
    assert "warning: local:b] has no preprocessor_config.json" in errors
    assert "".join(str(repository).split()) in "".join(out.split())  # folded at the terminal's width
    (folder / "config.json").write_text('{"model_type": "[/red]"}')
    code, _, errors = arch(str(folder), "--repository", str(repository))
    assert code == 2
    assert f"{folder} is of the architecture '[/red]'" in errors
