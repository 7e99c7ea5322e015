"""Python, and the packages that arch is made of."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError

from arch_common.errors import last_line
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from arch_bench.extras import DISTRIBUTION
from arch_bench.health.finding import Finding
from arch_bench.health.surroundings import Surroundings, run

PARTS = {
    "export": "exports checkpoints",
    "serve": "serves without a container",
    "bench": "benches a server",
    "load": "load-tests a server",
    "openvino": "exports or serves bf16 on a CPU",
}
# All of them are the module `onnxruntime`: what is installed last writes over the others' files.
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-rocm")
_PROBE = """
import json, onnxruntime
print(json.dumps([onnxruntime.__version__, onnxruntime.get_available_providers()]))
"""


def check_python(around: Surroundings) -> Iterator[Finding]:
    """The interpreter's version, and the kind of machine."""
    version, where = ".".join(map(str, around.python)), " ".join(around.system)
    try:
        wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    except PackageNotFoundError:
        yield Finding(
            *("Python", "warning", f"{version} on {where}; arch is not installed as a package, so no version is known"),
            "pip install . in a clone of the project",
        )
        return
    if not SpecifierSet(wanted).contains(version):
        advice = "make a virtual environment of Python 3.11 or 3.12, and install arch into it"
        yield Finding("Python", "fault", f"{version}, where arch wants {wanted}", advice)
    elif around.system != ("Linux", "x86_64"):
        advice = "bench a server elsewhere with --server, or serve in NVIDIA's container"
        yield Finding("Python", "warning", f"{version} on {where}: the pip server runs on Linux x86_64 alone", advice)
    else:
        yield Finding("Python", "ok", f"{version} on {where}")


def check_parts(_: Surroundings) -> Iterator[Finding]:
    """Each part of arch: whether its packages are there, in versions that it works with."""
    try:
        importlib.metadata.distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return
    always, wanted = _wanted(""), {part: _wanted(part) for part in PARTS}
    for part, requirements in wanted.items():
        names = set(requirements)
        # What arch always has, or another part brings too, does not show that this part is meant to be here.
        shared = {name for other in (always, *wanted.values()) if not names <= set(other) for name in other}
        own = [name for name in requirements if name not in shared]
        troubles = [trouble for requirement in requirements.values() if (trouble := _trouble(requirement))]
        install = f"pip install '{DISTRIBUTION}[{part}]' (in a clone: pip install '.[{part}]')"
        if own and not any(_distribution(name) for name in own):
            yield Finding(f"part {part}", "absent", f"not installed: it {PARTS[part]}", install)
        elif troubles:
            yield Finding(f"part {part}", "fault", "; ".join(troubles), install)
        else:
            yield Finding(f"part {part}", "ok", f"all {len(requirements)} packages, in versions that arch works with")


def check_numpy(_: Surroundings) -> Iterator[Finding]:
    """NumPy 1, where the server of the wheel is: with NumPy 2 it answers with empty tensors and no error."""
    found = _distribution("numpy")
    if found is None:
        yield Finding("NumPy", "fault", "not installed", "pip install 'numpy>=1.26,<2'")
        return
    serves = _distribution("nvidia-pytriton") is not None
    if serves and int(found.version.partition(".")[0]) >= 2:
        yield Finding(
            *("NumPy", "fault", f"{found.version}: with it, the server of the pip wheel answers with empty tensors"),
            "pip install 'numpy>=1.26,<2'",
        )
        return
    yield Finding("NumPy", "ok", found.version)


def check_onnxruntime(around: Surroundings) -> Iterator[Finding]:
    """ONNX Runtime: one distribution of it, which can be imported, where the server's Python finds it too."""
    there = [found for name in RUNTIMES if (found := installed(name))]
    if not there:
        yield Finding("ONNX Runtime", "absent", "not installed: it exports, and serves without a container")
        return
    words = " and ".join(f"{one.name} {one.version}" for one in there)
    if len(there) > 1:
        names = " ".join(one.name for one in there)
        yield Finding(
            *("ONNX Runtime", "fault", f"{words} are installed over each other: parts of both are mixed"),
            f"pip uninstall -y {names}, then install one: onnxruntime, or 'onnxruntime-gpu[cuda,cudnn]' for a GPU",
        )
        return
    answer = runtime_providers(around)
    if isinstance(answer, str):
        advice = f"pip install --force-reinstall '{there[0].name}=={there[0].version}'"
        yield Finding("ONNX Runtime", "fault", f"{words} cannot be imported: {answer}", advice)
        return
    from_path = [path for path in around.environ.get("PYTHONPATH", "").split(":") if path]
    spec = importlib.util.find_spec("onnxruntime")
    origin = (spec.origin if spec else None) or ""
    if any(origin.startswith(f"{path.rstrip('/')}/") for path in from_path):
        advice = "install it into this Python: the server's Python does not see PYTHONPATH"
        yield Finding("ONNX Runtime", "warning", f"{words} comes from PYTHONPATH", advice)
        return
    yield Finding("ONNX Runtime", "ok", f"{words}, with {', '.join(_short(one) for one in answer)}")


def runtime_providers(around: Surroundings) -> list[str] | str:
    """The execution providers of the ONNX Runtime that is installed; why it cannot be imported, as a text."""
    return _probe_runtime(tuple(sorted(around.environ.items())))


@cache  # two checks ask
def _probe_runtime(environment: tuple[tuple[str, str], ...]) -> list[str] | str:
    # In a process of its own: an import that crashes ends that one.
    code, said = run([sys.executable, "-c", _PROBE], dict(environment))
    if code == 0:
        try:
            found: list[str] = json.loads(said.strip().splitlines()[-1])[1]
        except (ValueError, IndexError, TypeError):
            return last_line(said, "it says nothing")
        return found
    return last_line(said, f"it ends with exit status {code}")


def _short(provider: str) -> str:
    return provider.removesuffix("ExecutionProvider")


def _distribution(name: str) -> Distribution | None:
    """The installed distribution; for onnxruntime one of those that bring the module."""
    for one in RUNTIMES if name == "onnxruntime" else (name,):
        try:
            return importlib.metadata.distribution(one)
        except PackageNotFoundError:
            continue
    return None


def installed(name: str) -> Distribution | None:
    """The installed distribution of exactly this name."""
    try:
        return importlib.metadata.distribution(name)
    except PackageNotFoundError:
        return None


def _wanted(part: str) -> dict[str, Requirement]:
    """What a part adds to what arch always needs, by canonical name; of no part, what that is."""
    found: dict[str, Requirement] = {}
    for requirement in map(Requirement, importlib.metadata.requires(DISTRIBUTION) or []):
        name, marker = canonicalize_name(requirement.name), requirement.marker
        is_always = marker is None or marker.evaluate({"extra": ""})
        is_wanted = is_always if not part else not is_always and marker is not None and marker.evaluate({"extra": part})
        if is_wanted and name != DISTRIBUTION:
            found[name] = requirement
    return found


def _trouble(requirement: Requirement) -> str:
    """What is wrong with the distribution that a requirement names; empty if nothing is."""
    found = _distribution(canonicalize_name(requirement.name))
    if found is None:
        return f"{requirement.name} is missing"
    if not requirement.specifier.contains(found.version, prereleases=True):
        return f"{found.name} is {found.version}, where arch wants {requirement.specifier}"
    # A removal or an installation that was interrupted leaves the name without the files.
    code = next((file for file in found.files or [] if file.suffix in (".py", ".so")), None)
    if code is not None and not code.locate().exists():  # type: ignore[attr-defined]
        return f"the files of {found.name} are gone"
    return ""
