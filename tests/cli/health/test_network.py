"""What `arch doctor` finds of proxies and of the Hub."""

from __future__ import annotations

import pytest
from arch_bench.health.network import check_hub, check_proxies
from arch_bench.health.surroundings import Surroundings


@pytest.mark.parametrize(
    ("environ", "level", "advice"),
    [
        ({}, "ok", ""),
        ({"HTTP_PROXY": "http://proxy:3128"}, "ok", ""),  # gRPC does not look at it
        ({"http_proxy": "http://proxy:3128", "no_proxy": "*"}, "ok", ""),
        ({"http_proxy": "http://proxy:3128"}, "warning", "export no_proxy=HOST,"),
        ({"https_proxy": "http://proxy:3128", "no_proxy": "gpu1"}, "warning", "export no_proxy=gpu1,HOST,"),
        ({"grpc_proxy": "http://proxy:3128"}, "warning", "export no_proxy=HOST,"),
    ],
)
def test_proxies(environ: dict[str, str], level: str, advice: str) -> None:
    (found,) = check_proxies(Surroundings(environ=environ))
    assert found.level == level
    assert found.advice.startswith(advice)
    assert bool(found.advice) == bool(advice)


def test_the_hub() -> None:
    (found,) = check_hub(Surroundings(environ={"HF_HUB_OFFLINE": "0"}))
    assert found.level == "ok"
    (found,) = check_hub(Surroundings(environ={"HF_HUB_OFFLINE": "1"}))
    assert (found.level, found.advice) == ("absent", "unset HF_HUB_OFFLINE to fetch checkpoints")
