"""The `README.md` beside `config.pbtxt`: the same facts, nothing else, and a call that works."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from arch_common.content import content_hash
from arch_export.checkpoint.files import licence_of
from arch_export.pipeline import export
from arch_export.repository.model_card import model_card
from arch_serve.server import LocalServer
from support.model_configs import config_of, facts_of

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("traced_once")]


def table(card: str, heading: str) -> dict[str, list[str]]:
    """The rows under a heading, by their first cell, without the marks of code."""
    section = card.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").replace("`", "").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


@pytest.mark.parametrize("name", ["tiny-hubert", "logmel"])
def test_the_card_says_what_the_configuration_says(repository: Path, name: str) -> None:
    card, facts = (repository / name / "README.md").read_text(), facts_of(repository / name)
    assert card == model_card(config_of(repository / name))
    assert card.startswith(f"# {name}\n")
    rows = table(card, "What it is")
    for row, fact in (
        ("source", "source"),
        ("revision", "revision"),
        ("family", "family"),
        ("ONNX opset", "opset"),
        ("content", "content_hash"),
        ("exported by", "exported_by"),
    ):
        assert rows[row] == [facts[fact]]
    assert rows["embedding"] == [f"{facts['embedding_size']} values"]
    assert rows["precision"] == ["fp32, configured for the target auto"]
    rows = table(card, "How close it is to the original")
    assert rows["mean cosine"] == [facts["parity_mean_cosine"], "at least 0.99999999"]
    assert rows["the worst clip's cosine"] == [facts["parity_min_cosine"], "at least 0.99999999"]
    assert rows["the largest relative error"] == [facts["parity_max_relative_error"], "at most 0.0001"]
    assert f"on {facts['parity_clips']} synthesised clips of 0.1 to 5.0 s" in card
    assert f"- Mono, {facts['sample_rate']} Hz" in card
    assert f"- At least {facts['receptive_field']} samples (25 ms)" in card
    assert facts["receptive_field"] == "400"
    assert "It misses" not in card


def test_the_receptive_field_is_the_shortest_clip_that_the_graph_takes(repository: Path) -> None:
    for name in ("tiny-hubert", "logmel"):
        field = int(facts_of(repository / name)["receptive_field"])
        session = onnxruntime.InferenceSession(repository / name / "1" / "model.onnx")
        session.run(None, {"waveform": np.zeros((1, field), np.float32), "num_samples": np.array([[field]])})
        with pytest.raises(Exception, match=r"(?i)invalid|dimension|shape"):
            session.run(
                None, {"waveform": np.zeros((1, field - 1), np.float32), "num_samples": np.array([[field - 1]])}
            )


def test_licence_cut_and_lengths(tmp_path: Path, checkpoint: Path) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "a | b`c"))
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-nc-4.0\n---\n# Mine\n")
    exported = export(str(folder), tmp_path / "repository", "cut", layers="1", lengths="exact")
    card = (exported.folder / "README.md").read_text()
    rows = table(card, "What it is")
    assert rows["licence of the checkpoint"] == ["cc-by-nc-4.0"]
    assert rows["layers"] == ["cut after layer 1, whose mean hidden state is the embedding"]
    assert facts_of(exported.folder)["source"] == "local:a | b`c"
    assert "| source | `local:a \\| b'c` |" in card
    assert "Padding changes nothing" in card
    assert "Padding counts" not in card
    (folder / "README.md").unlink()
    assert "| licence of the checkpoint | not stated where it was read from |" in model_card(
        config_of(export(str(folder), tmp_path / "repository", "bare").folder)
    )


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\nlicense: other\nlicense_name: ours\n---\n", "ours"),
        ("---\nlicense: 5\n---\n", ""),
        ("---\n{: no yaml\n---\n", ""),
        ("no metadata", ""),
    ],
)
def test_the_licence_that_a_checkpoint_states(tmp_path: Path, text: str, licence: str) -> None:
    (tmp_path / "README.md").write_text(text)
    assert licence_of(tmp_path) == licence


def test_a_model_that_misses_its_limits_says_so_first(repository: Path) -> None:
    config = config_of(repository / "tiny-hubert")
    config.parameters["parity_missed"].string_value = "its embeddings differ by 0.5"
    first = model_card(config).split("\n## ")[0]
    assert "It misses the limits of its precision, and was installed with `--force`:** its embeddings differ" in first


@pytest.mark.triton
@pytest.mark.slow
def test_the_call_works_and_triton_minds_no_card(tmp_path: Path, repository: Path) -> None:
    for name in ("tiny-hubert", "logmel"):
        assert facts_of(repository / name)["content_hash"] == content_hash(repository / name / "1")
    log = tmp_path / "triton.log"
    with LocalServer(repository, grpc_port=0, http_port=0, metrics_port=0, log_file=log) as server:
        assert {model.name: model.ready for model in server.models} == {"tiny-hubert": True, "logmel": True}
        for name in ("tiny-hubert", "logmel"):
            card = (repository / name / "README.md").read_text()
            (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
            assert code.count('"localhost:8001"') == 1
            said: dict[str, object] = {}
            exec(code.replace("localhost:8001", server.grpc_url), said)  # noqa: S102 - it is what users paste
            embedding = np.asarray(said["embedding"])
            session = onnxruntime.InferenceSession(repository / name / "1" / "model.onnx")
            feeds = {"waveform": np.zeros((1, 16000), np.float32), "num_samples": np.array([[16000]])}
            assert embedding.shape == (int(facts_of(repository / name)["embedding_size"]),)
            np.testing.assert_allclose(embedding, session.run(["embedding"], feeds)[0][0], rtol=1e-4, atol=1e-5)
    assert "README" not in log.read_text()
