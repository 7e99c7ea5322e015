"""What is wrong with a file of `arch bench -f` is told all at once, with its line and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from arch_bench.commands.bench import bench
from arch_bench.commands.gate import gate
from arch_bench.commands.load import load
from arch_bench.config.model import config_model
from arch_bench.config.reading import BenchConfig, parse_config, read_config
from arch_common.errors import ConfigError, UsageError

MODEL = config_model(bench, load, gate)


def read(text: str, folder: Path = Path("conf")) -> BenchConfig:
    return parse_config(text, "bench.yaml", folder, MODEL)


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value).split("\n")


WHOLE = """\
# yaml-language-server: $schema=bench.schema.json
datasets:
  - esc50
  - demo=../data/demo
  - name: ravdess
    path: ~/ravdess
    strict: true
  - path: frogs
  - own/birds.yaml
models: [on, 1.10, hubert]
servers:
  addresses: [gpu1:8001, "gpu2:8001"]
  tls-ca: /etc/ca.pem
  repository: models
probes:
  names: [linear, knn]
  seeds: 5
speed:
  rate: 1e1
  transport: shared-memory
  recompute: true
price: 2.49
ablate: ["padding,loudness", length]
output: 2024-01-01
loads:
  - {slo: p99=200ms, rate: 5:100:8, dataset: demo=../data/demo}
  - {scenario: offline, min-duration: 2, full: false}
gate:
  baseline: reports/before
  max-drop: 1pt
  min-speed: 0.95
  max-p99: [200ms@16/s, 50ms@alone]
  json: gate.json
"""


def test_a_whole_file() -> None:
    found = read(WHOLE)
    assert found.options == {
        "dataset": [
            "esc50",
            "demo=conf/../data/demo",
            f"ravdess@strict={Path('~/ravdess').expanduser()}",
            "conf/frogs",
            "conf/own/birds.yaml",
        ],
        "model": ["on", "1.10", "hubert"],  # as they are written: neither true nor 1.1
        "server": ["gpu1:8001", "gpu2:8001"],
        "tls_ca": Path("/etc/ca.pem"),
        "repository": Path("conf/models"),
        "probe": ["linear", "knn"],
        "seeds": 5,
        "rate": 10.0,
        "transport": "shared-memory",
        "recompute": True,
        "price": "2.49",
        "ablate": ["padding,loudness", "length"],
        "output": Path("conf/2024-01-01"),
    }
    assert found.loads == [
        {"slo": "p99=200ms", "rate": "5:100:8", "dataset": "demo=conf/../data/demo"},
        {"scenario": "offline", "min_duration": 2.0, "full": False},
    ]
    assert found.gate == {
        "baseline": Path("conf/reports/before"),
        "max_drop": "1pt",
        "min_speed": "0.95",
        "max_p99": ["200ms@16/s", "50ms@alone"],
        "json": Path("conf/gate.json"),
    }


def test_everything_wrong_is_told_at_once_by_line() -> None:
    text = """\
datasets:
  - esc50
  - name: esc5
  - esc51
  - {strict: true}
seeds: 3
modles: [a]
servers:
  addresses: [localhost]
  headers: ["nonsense"]
probes:
  names: [linear, lineer]
  seeds: 0
  seeds: 4
  seed: on
  layers: yes
speed:
  repeat: "3"
  rate: 010
  concurrency: 1e3
  workers:
  transport: http
price: 2.49 EUR
ablate: padding
output: [a]
loads:
  - slo: 200ms
    rate: x
gate:
  max-drop: 1
  min-cosine: 7
  colour: red
"""
    assert faults(text) == [
        "bench.yaml:3:5: datasets[1].name: unknown dataset 'esc5'; did you mean esc50?",
        "bench.yaml:4:5: datasets[2]: unknown dataset 'esc51'; did you mean esc50?",
        "bench.yaml:5:5: datasets[3]: must have a name, or the path of own data",
        "bench.yaml:6:1: seeds: unknown key; did you mean probes.seeds?",
        "bench.yaml:7:1: modles: unknown key; did you mean models?",
        "bench.yaml:9:15: servers.addresses[0]: 'localhost' is no server address: wants HOST:PORT of Triton's gRPC "
        "endpoint",
        "bench.yaml:10:13: servers.headers[0]: --header or ARCH_HEADER: wants 'NAME: VALUE' of printable ASCII",
        "bench.yaml:12:19: probes.names[1]: cannot be 'lineer'; did you mean linear?",
        "bench.yaml:13:3: probes.seeds: must be 1 or more, not '0'",
        "bench.yaml:14:3: probes.seeds stands there twice, first in line 13",
        "bench.yaml:15:3: probes.seed: must be a whole number such as 3, not 'on'",
        "bench.yaml:16:3: probes.layers: must be true or false, not 'yes'",
        "bench.yaml:18:3: speed.repeat: must be a whole number such as 3, not the text '3': take its quotes away",
        "bench.yaml:19:3: speed.rate: must be a number such as 2.5, not '010'",
        "bench.yaml:20:3: speed.concurrency: must be a whole number such as 3, not '1e3'",
        "bench.yaml:21:3: speed.workers: has no value: give it one, or leave the key out",
        "bench.yaml:22:3: speed.transport: cannot be 'http'; there is grpc, shared-memory",
        "bench.yaml:23:1: price: --price 2.49 EUR: a price of an hour is a number over 0 such as 2.49/h, without a "
        "currency",
        "bench.yaml:24:1: ablate: must be a list, as in [padding]",
        "bench.yaml:25:1: output: must be one value, not a list",
        "bench.yaml:27:5: loads[0].slo: --slo '200ms' is no promise: wants a percentile from p50 and a time, such as "
        "p99=200ms",
        "bench.yaml:28:5: loads[0].rate: --rate 'x' cannot be right: wants clips/s, as FROM:TO, FROM:TO:STEPS or one "
        "number: 5:100:8",
        "bench.yaml:29:1: gate.baseline: is missing",
        "bench.yaml:30:3: gate.max-drop: --max-drop cannot be '1': wants percentage points, such as 1pt",
        "bench.yaml:31:3: gate.min-cosine: --min-cosine cannot be '7': it is out of its range",
        "bench.yaml:32:3: gate.colour: unknown key; there is baseline, max-drop, min-speed, max-p99, max-failed, "
        "min-cosine, pairs, models, datasets, strict, baseline-cache, junit, markdown, json",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "bench.yaml:1:1: must be lines of `key: value`; the keys are datasets, data-root,"),
        ("- a", "bench.yaml:1:1: must be lines of `key: value`"),
        ("price: 1\n\tcache: a", "bench.yaml:2:1: this is no YAML: "),
        ("price: [1", "bench.yaml:1:10: this is no YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("price: 1\n---\nprice: 2", "bench.yaml:2:1: this is no YAML: expected a single document in the stream"),
        ("price: \x07", "bench.yaml:1:1: this is no YAML: ReaderError"),
        ("models: &all [*all]", "bench.yaml:1:1: holds more than 10,000 values, or a value that holds itself"),
        (
            "x: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\ny: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
            "z: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nw: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
            "v: [*d, *d, *d, *d, *d, *d, *d, *d, *d]",
            "bench.yaml:1:1: holds more than 10,000 values",
        ),
        (
            "output: !!python/object:os.system a",
            "bench.yaml:1:9: output: the tag tag:yaml.org,2002:python/object:os.system is not read",
        ),
        ("output: !secret a", "bench.yaml:1:9: output: the tag !secret is not read: leave it out"),
        ("[a]: 1", "bench.yaml:1:1: the file: a key must be one word"),
        ("gate: 1pt", "bench.yaml:1:1: gate: must hold keys, of baseline, max-drop,"),
        ("loads: {slo: p99=1s}", "bench.yaml:1:1: loads: must be a list"),
        ("models: []", "bench.yaml:1:1: models: holds nothing: name one or more, or leave the key out"),
        ("models: ['']", "bench.yaml:1:10: models[0]: must be text of one line"),
        ("probes: {seeds: 1001}", "bench.yaml:1:10: probes.seeds: must be 1000 or less, not '1001'"),
        ("datasets: [demo=]", "bench.yaml:1:12: datasets[0]: demo= names no path behind the ="),
        ("datasets: [{path: frogs, strict: true}]", "bench.yaml:1:12: datasets[0]: own data is split as it says"),
    ],
)
def test_one_thing_wrong(text: str, told: str) -> None:
    (line,) = faults(text)
    assert line.startswith(told), line


def test_what_is_referred_to_is_read_where_it_is_used() -> None:
    found = read("models: &ours [a]\nloads:\n  - {slo: p99=1s, models: *ours}\n")
    assert (found.options["model"], found.loads[0]["model"]) == (["a"], ["a"])


def test_paths_count_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "frogs").mkdir(parents=True)
    (tmp_path / "conf" / "bench.yaml").write_bytes("\ufeffdatasets: [frogs, esc50=data/é]\ncache: c\n".encode())
    monkeypatch.chdir(tmp_path)
    found = read_config(Path("conf/bench.yaml"), MODEL)
    assert found.options["dataset"] == ["conf/frogs", "esc50=conf/data/é"]
    assert found.options["cache"] == Path("conf/c")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        read_config(tmp_path / "none.yaml", MODEL)
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        read_config(tmp_path, MODEL)
    (tmp_path / "latin.yaml").write_bytes(b"output: \xe9")
    with pytest.raises(UsageError, match="is no UTF-8 text"):
        read_config(tmp_path / "latin.yaml", MODEL)
