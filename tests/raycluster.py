"""A Ray cluster of several nodes on this machine, for tests; patient, as the machine may do other things too."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATIENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_prestart_worker_first_driver": "0",
    # Every node is at 127.0.0.1, and drivers are to look for it there and not at this machine's address on the net.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
os.environ.update(PATIENT)  # before Ray is imported, which reads it then


@contextmanager
def patient() -> Iterator[None]:
    """Within it, also once more within it, Ray may take its time to start. What workers import may lie beside this
    file."""
    import ray._private.node

    if Node.real is not None:
        yield
        return

    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (str(HERE.parent), str(HERE), before) if part)
    Node.real, ray._private.node.Node.start_raylet = ray._private.node.Node.start_raylet, _start_raylet
    try:
        yield
    finally:
        ray._private.node.Node.start_raylet, Node.real = Node.real, None
        os.environ["PYTHONPATH"] = before


@contextmanager
def cluster(nodes: int = 2) -> Iterator[str]:
    """The address of a cluster of so many nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    with patient():
        found = Cluster(initialize_head=True, head_node_args=_arguments())
        try:
            for _ in range(nodes - 1):
                found.add_node(**_arguments())
            yield str(found.address)
        finally:
            found.shutdown()


class Node:
    """Where Ray's own way to start a node is kept."""

    real: Any = None


def _start_raylet(node: Any, *given: Any, **named: Any) -> Any:
    """Ray gives its agents 15 s to say which ports they serve, too little on a loaded machine: the ports are given, or
    said to be none, as its dashboard's are here."""
    for port in ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port"):
        Path(node._session_dir, f"{port}_{node._node_id}").write_text("-1")
    node._ray_params.runtime_env_agent_port = _free_port()
    return Node.real(node, *given, **named)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _arguments() -> dict[str, Any]:
    return {
        "num_cpus": 1,
        "include_dashboard": False,
        "node_ip_address": "127.0.0.1",
        "object_store_memory": 80 * 2**20,
    }
