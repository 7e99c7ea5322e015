"""Whether a node of a cluster reaches the servers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
from arch_common.errors import UsageError

from arch_harness.triton.endpoint import Endpoint

_REACH_S = 10.0


def unreached(endpoints: Sequence[Endpoint]) -> list[str]:
    """The addresses of servers to which no connection can be made from here."""
    found = []
    for endpoint in endpoints:
        with endpoint.channel() as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=_REACH_S)
            except grpc.FutureTimeoutError:
                found.append(endpoint.address)
    return found


def check_reach(endpoints: Sequence[Endpoint], node: str, same_network: bool, ask: Callable[[], list[str]]) -> None:
    """See whether the servers' addresses mean the same on a node, and reach them.

    Args:
        endpoints: the servers.
        node: its name.
        same_network: whether a loopback address means the same there.
        ask: calls `unreached` there.

    Raises:
        UsageError: if not.
    """
    local = next((endpoint for endpoint in endpoints if endpoint.loopback), None)
    if local and not same_network:
        how = (
            "the server that is started for the run hears this machine alone: run `arch serve --host ADDRESS` and "
            "give its address with --server"
            if local.started_by_arch
            else f"--server {local.address} is this machine only by that name: give an address that all nodes reach"
        )
        raise UsageError(f"workers run on node {node} too, and {how}")
    if missing := ask():
        raise UsageError(
            f"node {node} of the Ray cluster does not reach --server {missing[0]}, which this machine does: give "
            "an address that all nodes reach, or open the way to it"
        )
