"""A Ray cluster of two nodes on this machine, by `ray start`: for the tests and for `make torture`. Linux only: it finds Ray's processes in /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hosts
from comfyui import free_port

MEMORY = str(100 * 2**20)  # for the objects of a node
PATIENCE = 120.0  # seconds for both nodes to be there
Node = subprocess.Popen


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[str, Node[bytes], Node[bytes]]]:
    """The address of a cluster, its head and its other node. `folder` has a short path: sockets lie in it."""
    import ray

    port = free_port()
    address, second = f"127.0.0.1:{port}", None
    common = ("--include-dashboard", "false", "--temp-dir", str(folder))
    head = start("--head", "--node-ip-address", "127.0.0.1", "--port", str(port), *common)
    try:
        until = time.monotonic() + PATIENCE
        while not answers(port) and time.monotonic() < until:
            time.sleep(0.2)
        second = start("--address", address)
        ray.init(address=address, log_to_driver=False, logging_level="error")
        while sum(node["Alive"] for node in ray.nodes()) < 2 and time.monotonic() < until:
            time.sleep(0.2)
        if sum(node["Alive"] for node in ray.nodes()) < 2:
            raise RuntimeError(f"There are no two nodes of Ray after {PATIENCE:.0f} s.")
        yield address, head, second
    finally:
        ray.shutdown()
        for node in filter(None, (second, head)):
            end(node)


def start(*arguments: str) -> Node[bytes]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "2", *arguments]
    paths = [str(hosts.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "RAY_DISABLE_DOCKER_CPU_WARNING": "1"}
    return subprocess.Popen(
        [*command, "--object-store-memory", MEMORY, "--disable-usage-stats"],
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(node: Node[bytes]) -> None:
    """The node with all its processes, without a farewell."""
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait(30)


def workers(node: Node[bytes]) -> list[int]:
    """The actors' processes on a node that have begun: Ray writes what they do into their names."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ray::RemoteWorker" in (path / "cmdline").read_bytes() and os.getsid(int(path.name)) == node.pid:
                found.append(int(path.name))
    return found
