"""A batch under way: stopped, killed, disturbed, in another order, several clips at once; the files are the same."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import repository
import torch
from batch_files import lines, pixels, with_pictures
from micro import ANIMATE, picture
from PIL import Image

from dynamicrafter_core import render
from dynamicrafter_core.atomic import only_here
from dynamicrafter_core.batch import here
from dynamicrafter_core.batch.jobs import Job, read_jobs
from dynamicrafter_core.batch.result import Result
from dynamicrafter_core.batch.work import Worker
from dynamicrafter_core.errors import InputError

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures, and the working directory."""
    monkeypatch.chdir(tmp_path)
    return with_pictures(tmp_path)


@pytest.fixture
def model(model_of: Callable[[str], Path]) -> str:
    return str(model_of(ANIMATE))


def test_stopping_finishes_the_clip_and_leaves_the_rest(folder: Path, model: str) -> None:
    jobs = [{"image": f"p{n}.png", "steps": 1, "model": model} for n in range(4)]
    stop, made = Event(), []
    for result in render(jobs, "out", stop=stop, on_progress=lambda *_: stop.set()):
        made.append(result.number)
    assert made == [1] and len(pixels(Path("out"))) == 1
    assert [result.state for result in render(jobs, "out")] == ["kept", "made", "made", "made"]


def test_several_clips_at_once_are_the_same_files(folder: Path, model: str) -> None:
    jobs: list[Any] = [{"image": f"p{n % 4}.png", "steps": 2, "seed": n, "model": model} for n in range(6)]
    jobs.insert(2, {"image": "p0.png", "mask": "gone.png", "model": model, "name": "bad"})
    threads, told = torch.get_num_threads(), []
    one = [result.state for result in render(jobs, "one")]
    three = [result.state for result in render(jobs, "three", at_once=3, on_progress=lambda *step: told.append(step))]
    assert sorted(three) == sorted(one) == ["failed"] + ["made"] * 6
    assert len(pixels(Path("one"))) == 6 and pixels(Path("one")) == pixels(Path("three"))
    assert told and torch.get_num_threads() == threads


def test_small_models_make_a_clip_to_a_thread(folder: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job for job in read_jobs([{"image": "p0.png", "model": model}]) if isinstance(job, Job)]
    for threads, expected in ((1, 1), (3, 3), (16, here.MOST)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert here.clips_at_once(jobs, Worker("cpu")) == expected
    monkeypatch.setattr(here, "SMALL", Path(model).stat().st_size - 1)
    assert here.clips_at_once(jobs, Worker("cpu")) == 1


def test_what_nobody_waits_for_is_left(folder: Path, model: str) -> None:
    jobs = [{"image": "p0.png", "steps": 1 if n == 0 else 500, "seed": n, "model": model} for n in range(5)]
    results = render(jobs, "out", at_once=2)
    assert next(results).number == 1
    results.close()  # type: ignore[attr-defined]
    assert len(pixels(Path("out"))) == 1 and not list(Path("out").glob(".*.mp4"))

    def interrupt(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(render(jobs, "out", on_progress=interrupt))


def test_two_batches_do_not_share_a_folder(folder: Path, model: str) -> None:
    Path("out").mkdir()
    with only_here(Path("out")), pytest.raises(InputError, match="is being written by another process"):
        list(render([{"image": "p0.png", "steps": 1, "model": model}], "out"))
    assert not list(Path("out").iterdir())


def start(folder: Path, model: str, jobs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dynamicrafter_core", "batch", str(jobs), "-o", "out", "-m", model]
    environ = {**os.environ, "PYTHONPATH": str(repository.ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(count: int, out: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while len(list(out.glob("*.mp4"))) < count and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_files(folder: Path, model: str) -> None:
    jobs = lines(folder / "jobs.jsonl", *({"image": f"p{n % 4}.png", "steps": 2, "seed": n} for n in range(8)))
    assert start(folder, model, jobs).wait(300) == 0
    expected = pixels(folder / "out")
    assert len(expected) == 8
    (folder / "out").rename(folder / "whole")
    for count in (1, 3, 6):
        process = start(folder, model, jobs)
        wait_for(count, folder / "out", process)
        time.sleep(0.05)
        process.kill()
        process.wait(60)
        made = pixels(folder / "out")
        assert count <= len(made) < 8
        assert all(expected[name] == content for name, content in made.items())  # whole, each of them
    assert start(folder, model, jobs).wait(300) == 0
    assert pixels(folder / "out") == expected
    left = {path.name for path in (folder / "out").iterdir()} - set(expected)
    assert left == {"report.html", "results.jsonl"}
    assert (folder / "out" / "results.jsonl").read_text() == (folder / "whole" / "results.jsonl").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_once_finishes_the_clip(folder: Path, model: str) -> None:
    jobs = lines(folder / "jobs.jsonl", *({"image": "p0.png", "steps": 20, "seed": n} for n in range(30)))
    process = start(folder, model, jobs)
    wait_for(1, folder / "out", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 3
    made = len(pixels(folder / "out"))
    assert 1 <= made < 30
    assert not list((folder / "out").glob(".*"))
    entries = (folder / "out" / "results.jsonl").read_text().splitlines()
    assert len(entries) == made


def test_results_of_any_order_are_the_same_files(folder: Path, model: str) -> None:
    jobs = [{"image": f"p{n}.png", "steps": 1, "seed": n, "model": model, "name": f"n{n}"} for n in range(3)]
    list(render(jobs, "forward"))
    results: list[Result] = list(render(jobs[::-1], "backward"))
    assert len(results) == 3 and pixels(Path("forward")) == pixels(Path("backward"))


def test_a_picture_that_changes_while_its_clip_is_made_makes_it_again(folder: Path, model: str) -> None:
    jobs = [{"image": f"p{n}.png", "steps": 1, "model": model} for n in range(2)]
    changed = []

    def change(*_: object) -> None:
        if not changed:
            changed.append(Image.fromarray(picture(9)).save("p0.png"))

    assert [result.state for result in render(jobs, "out", on_progress=change)] == ["made", "made"]
    assert {result.number: result.state for result in render(jobs, "out")} == {1: "made", 2: "kept"}
