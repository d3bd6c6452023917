"""A batch on a real Ray cluster of two nodes: a worker and a node are lost in the middle, and no clip is."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import repository
from micro import ANIMATE, FRAMES, picture
from PIL import Image

from dynamicrafter_core import render
from dynamicrafter_core.media.frames import read_clip
from dynamicrafter_core.media.saving import read_settings

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install dynamicrafter[ray]")

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it finds Ray's processes in /proc"),
]
Node: TypeAlias = "subprocess.Popen[bytes]"
MEMORY = str(100 * 2**20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_node(*arguments: str) -> Node:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "2", *arguments]
    environ = {
        **os.environ,
        "PYTHONPATH": str(repository.ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    }
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        [*command, "--object-store-memory", MEMORY, "--disable-usage-stats"],
        env=environ,
        stdout=quiet,
        stderr=quiet,
        start_new_session=True,
    )


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Node, Node]]:
    """The address of a cluster, and its two nodes."""
    folder = tmp_path_factory.getbasetemp().parent / f"ray{os.getpid()}"  # short: sockets lie in it
    port = free_port()
    common = ("--include-dashboard", "false", "--temp-dir", str(folder))
    head = start_node("--head", "--node-ip-address", "127.0.0.1", "--port", str(port), *common)
    address = f"127.0.0.1:{port}"
    second = None
    try:
        until = time.monotonic() + 60
        while not answers(port) and time.monotonic() < until:
            time.sleep(0.2)
        second = start_node("--address", address)
        ray.init(address=address, log_to_driver=False, logging_level="error")
        while len([node for node in ray.nodes() if node["Alive"]]) < 2 and time.monotonic() < until + 60:
            time.sleep(0.2)
        assert len(ray.nodes()) == 2
        yield address, head, second
    finally:
        ray.shutdown()
        for node in filter(None, (second, head)):
            end(node)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(node: Node) -> None:
    """The node with all its processes, without a farewell."""
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait(30)


def workers(node: Node) -> list[int]:
    """The actors' processes on a node that have begun: Ray writes what they do into their names."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ray::RemoteWorker" in (path / "cmdline").read_bytes() and os.getsid(int(path.name)) == node.pid:
                found.append(int(path.name))
    return found


def test_a_lost_worker_and_a_lost_node_lose_no_clip(
    cluster: tuple[str, Node, Node], tmp_path: Path, model_of: Callable[[str], Path]
) -> None:
    address, head, second = cluster
    for number in range(3):
        Image.fromarray(picture(number)).save(tmp_path / f"p{number}.png")
    jobs = [
        {
            "image": str(tmp_path / f"p{n % 3}.png"),
            "model": str(model_of(ANIMATE)),
            "steps": 20,
            "seed": n,
            "name": f"n{n}",
        }
        for n in range(10)
    ]
    jobs.append({"image": str(tmp_path / "p0.png"), "steps": 0, "name": "bad"})
    results = []
    for result in render(jobs, tmp_path / "out", ray=address):
        results.append(result)
        made = sum(each.state == "made" for each in results)
        if made == 2:
            os.kill(workers(head)[0], signal.SIGKILL)
        if made == 5:
            end(second)
    states = {result.name: result.state for result in results}
    assert len(results) == len(jobs) and states == {**{f"n{n}": "made" for n in range(10)}, "bad": "failed"}
    here = {result.name: result.path for result in render(jobs[:1], tmp_path / "here")}
    for number in range(10):
        path = tmp_path / "out" / f"n{number}.mp4"
        assert len(read_clip(path)) == FRAMES and read_settings(path)["seed"] == number
    first = here["n0"]
    assert first is not None and first.read_bytes() == (tmp_path / "out" / "n0.mp4").read_bytes()
    again = list(render(jobs, tmp_path / "out", ray=address))
    assert sorted(result.state for result in again) == ["failed", *10 * ["kept"]]
    assert not list((tmp_path / "out").glob(".*"))
