"""What is asked of an export is settled before anything heavy is imported, and names are never mistaken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from arch_bench import api
from arch_bench.commands.export import LengthsChoice, PrecisionChoice, TargetChoice
from arch_common.errors import ExportUsageError
from arch_export.checkpoint.locate import model_name
from arch_export.encoder.options import Lengths
from arch_export.encoder.precision import Precision, Target
from arch_export.request import settle_request
from support.commands import arch


def test_the_choices_of_the_command_line_are_the_exports() -> None:
    assert [list(map(str, choice)) for choice in (LengthsChoice, PrecisionChoice, TargetChoice)] == [
        list(map(str, known)) for known in (Lengths, Precision, Target)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "fp23"], "'fp23' is not one of 'fp32'"),
        (["--target", "[/b]"], "'[/b]' is not one of 'auto'"),
        (["--lengths", "exakt"], "'exakt' is not one of 'padded', 'exact'"),
        (["--layers", "some"], "arch: --layers 'some': use none, all, or the number"),
        (["--precision", "fp16", "--target", "cpu"], "arch: fp16 is for the target gpu or tensorrt, not cpu"),
        (["--layers", "9" * 5000], f"arch: --layers '{'9' * 5000}': use none, all, or the number"),
        (["--max-queue-size", "9" * 20], f"arch: --max-queue-size {'9' * 20}: from 1 to 1,000,000 requests"),
        (["--name", "a b"], "arch: 'a b' cannot name a model"),
    ],
)
def test_a_typo_is_told(arguments: list[str], message: str) -> None:
    done = arch("export", "hubert-base", *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    "call",
    [
        "api.export('hubert-base', precision='fp23')",
        "api.export('hubert-bass')",
        "api.export('hubert-base', layers='some')",
        "api.export('hubert-base', name='a/b')",
    ],
)
def test_a_typo_waits_for_no_import(call: str) -> None:
    program = f"""if True:
        import sys
        from arch_bench import api
        from arch_common.errors import ExportUsageError
        try:
            {call}
        except ExportUsageError:
            print(*sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "arch_export.request" in done.stdout.split()
    assert not {"torch", "transformers", "onnx", "onnxruntime", "huggingface_hub"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [("hubert-base", "hubert-base"), ("my model (2)", "my-model-2-"), (".hidden", "hidden"), ("v1.5_x", "v1.5_x")],
)
def test_a_model_is_called_after_its_checkpoint(checkpoint: str, name: str) -> None:
    assert model_name(checkpoint) == name


@pytest.mark.parametrize("checkpoint", ["模型", "编码器", "模型2", "modèle", "кодер", "...", "- -"])
def test_no_two_names_become_one(tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / checkpoint).mkdir()
    with pytest.raises(ExportUsageError, match="choose a name with --name"):
        settle_request(str(tmp_path / checkpoint))
    assert settle_request(str(tmp_path / checkpoint), "mine").name_for(checkpoint) == "mine"


def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "checkpoint") + b"\xff"
    Path(os.fsdecode(folder)).mkdir()
    with pytest.raises(ExportUsageError, match=r"checkpoint\\udcff' is not UTF-8: rename the folder, or make a link"):
        api.export(os.fsdecode(folder), tmp_path, name="mine")


def test_a_hub_id_is_ascii() -> None:
    with pytest.raises(ExportUsageError, match=r"组织/模型 is neither a folder nor a hub id"):
        settle_request("组织/模型")
    with pytest.raises(ExportUsageError, match="cannot be read"):
        settle_request("~nobody-of-that-name/x")
