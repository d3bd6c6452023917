"""A batch on a real Ray cluster of two nodes: a worker and a node are lost in the middle, and no clip is."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from micro import ANIMATE, FRAMES, picture
from PIL import Image
from ray_nodes import Node, end, two_nodes, workers

from dynamicrafter_core import render
from dynamicrafter_core.batch.cluster import _connect
from dynamicrafter_core.media.frames import read_clip
from dynamicrafter_core.media.saving import read_settings

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install dynamicrafter[ray]")

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it finds Ray's processes in /proc"),
]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Node, Node]]:
    with two_nodes(tmp_path_factory.getbasetemp().parent / f"ray{os.getpid()}") as nodes:
        yield nodes


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


@pytest.mark.parametrize(
    ("address", "set_before", "then"), [("local", None, "0"), ("local", "1", "1"), ("auto", None, None)]
)
def test_a_cluster_of_its_own_reports_to_nobody_unless_told_to(
    address: str, set_before: str | None, then: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str | None] = []
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", set_before or "")
    if set_before is None:
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **given: told.append(given["address"]))
    _connect(address)
    assert told == [None if address == "local" else address]
    assert os.environ.get("RAY_USAGE_STATS_ENABLED") == then
