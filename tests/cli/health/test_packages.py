"""What `arch doctor` finds of Python and its packages."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest
from arch_bench.health.finding import Finding
from arch_bench.health.packages import check_numpy, check_onnxruntime, check_parts, check_python
from arch_bench.health.surroundings import Surroundings
from support.faulty_machines import arch_itself, package, packages

HERE = Surroundings()
BENCH = ("ray", "numba", "scikit-learn")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that is installed for this Python: nothing yet but arch itself."""
    folder = arch_itself(tmp_path / "site")
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def by_topic(found: list[Finding]) -> dict[str, Finding]:
    return {one.topic: one for one in found}


@pytest.mark.parametrize(
    ("version", "system", "level", "words"),
    [
        ((3, 11, 9), ("Linux", "x86_64"), "ok", "3.11.9 on Linux x86_64"),
        ((3, 13, 0), ("Linux", "x86_64"), "fault", "3.13.0, where arch wants <3.13,>=3.11"),
        ((3, 10, 12), ("Linux", "x86_64"), "fault", "3.10.12"),
        ((3, 12, 1), ("Darwin", "arm64"), "warning", "the pip server runs on Linux x86_64 alone"),
    ],
)
def test_python(version: tuple[int, int, int], system: tuple[str, str], level: str, words: str) -> None:
    (found,) = check_python(Surroundings(python=version, system=system))
    assert found.level == level
    assert words in found.found
    assert bool(found.advice) == (level != "ok")


def test_arch_that_is_not_installed_tells_no_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (found,) = check_python(HERE)
    assert (found.level, found.advice) == ("warning", "pip install . in a clone of the project")
    assert list(check_parts(HERE)) == []


def test_parts_that_are_not_there_are_no_fault(site: Path) -> None:
    found = list(check_parts(HERE))
    assert [one.topic for one in found] == ["part export", "part serve", "part bench", "part load", "part openvino"]
    assert {one.level for one in found} == {"absent"}
    assert "pip install 'arch-bench[bench]'" in by_topic(found)["part bench"].advice


def test_packages_that_parts_share_do_not_show_that_one_is_meant(site: Path) -> None:
    """numpy and onnxruntime are of `serve`, and come with `export` too."""
    packages(site, numpy="1.26.4", onnxruntime="1.32.0", tritonclient="2.73.0")
    assert {one.level for one in check_parts(HERE)} == {"absent"}


def test_a_part_with_a_package_missing_or_of_another_version(site: Path) -> None:
    wanted = {
        one.partition(";")[0].strip()
        for one in importlib.metadata.requires("arch-bench") or []
        if one.endswith("extra == 'bench'")
    }
    assert len(wanted) > 10
    for one in wanted:
        name = one.partition(">")[0].partition("<")[0].partition("[")[0]
        if name not in BENCH:
            package(site, name, "25.5" if name == "pyarrow" else "2.99" if name == "pandas" else "99.0")
    packages(site, ray="2.30.0", numba="0.70")
    (found,) = [one for one in check_parts(HERE) if one.topic == "part bench"]
    assert found.level == "fault"
    assert found.found == "ray is 2.30.0, where arch wants >=2.40; scikit-learn is missing"
    packages(site, scikit_learn="1.9.1")
    packages(site, ray="2.60.0")
    (site / "ray-2.30.0.dist-info" / "METADATA").unlink()
    (site / "ray-2.30.0.dist-info").rmdir()
    (found,) = [one for one in check_parts(HERE) if one.topic == "part bench"]
    assert (found.level, found.advice) == ("ok", "")
    assert found.found == f"all {len(wanted)} packages, in versions that arch works with"


def test_a_package_whose_files_are_gone(site: Path) -> None:
    packages(site, openvino="2026.4.1", onnxruntime_ep_openvino="1.8.1")
    (found,) = [one for one in check_parts(HERE) if one.topic == "part openvino"]
    assert found.level == "ok"
    record = site / "openvino-2026.4.1.dist-info" / "RECORD"
    record.write_text("openvino/__init__.py,,\n")
    (found,) = [one for one in check_parts(HERE) if one.topic == "part openvino"]
    assert (found.level, found.found) == ("fault", "the files of openvino are gone")
    (site / "openvino").mkdir()
    (site / "openvino" / "__init__.py").touch()
    (found,) = [one for one in check_parts(HERE) if one.topic == "part openvino"]
    assert found.level == "ok"


@pytest.mark.parametrize(
    ("there", "level"),
    [
        ({"numpy": "1.26.4", "nvidia_pytriton": "0.7.0"}, "ok"),
        ({"numpy": "2.3.0"}, "ok"),  # a client alone
        ({"numpy": "2.3.0", "nvidia_pytriton": "0.7.0"}, "fault"),
        ({}, "fault"),
    ],
)
def test_numpy(site: Path, there: dict[str, str], level: str) -> None:
    packages(site, **there)
    (found,) = check_numpy(HERE)
    assert found.level == level
    assert ("numpy>=1.26,<2" in found.advice) == (level == "fault")


def test_two_onnxruntimes_in_one_folder(site: Path) -> None:
    packages(site, onnxruntime="1.32.0", onnxruntime_gpu="1.31.1")
    (found,) = check_onnxruntime(HERE)
    assert found.level == "fault"
    assert found.found.startswith("onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed over each other")
    assert found.advice.startswith("pip uninstall -y onnxruntime onnxruntime-gpu, then install one")


def test_no_onnxruntime(site: Path) -> None:
    (found,) = check_onnxruntime(HERE)
    assert found.level == "absent"


def test_an_onnxruntime_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libstdc++.so.6: version not found')\n")
    environ = {**HERE.environ, "PYTHONPATH": str(tmp_path)}
    (found,) = check_onnxruntime(Surroundings(environ=environ))
    assert found.level == "fault"
    assert found.found.endswith("cannot be imported: ImportError: libstdc++.so.6: version not found")
    assert found.advice.startswith("pip install --force-reinstall 'onnxruntime==")


def test_the_onnxruntime_that_is_installed() -> None:
    (found,) = check_onnxruntime(HERE)
    assert (found.level, found.advice) == ("ok", "")
    assert found.found.startswith(f"onnxruntime {importlib.metadata.version('onnxruntime')}, with ")
    assert "CPU" in found.found


def test_an_onnxruntime_that_the_server_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '1.32.0'\ndef get_available_providers(): return []\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    (found,) = check_onnxruntime(Surroundings(environ={**HERE.environ, "PYTHONPATH": str(tmp_path)}))
    assert found.level == "warning"
    assert found.advice.endswith("the server's Python does not see PYTHONPATH")
