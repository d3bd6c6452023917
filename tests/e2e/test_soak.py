"""Many prompts in a row, some of them cancelled: memory returns to its level, and results are those of a fresh server.

The long form is `make torture ARGS="soak --prompts 500"`.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfyui
import numpy as np
import psutil
import pytest
import repository
import standins
from PIL import Image

PROMPTS = 12
MEGABYTE = 2**20


def vary(prompt: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """One of many settings, all of them small."""
    chosen: dict[str, dict[str, Any]] = {
        "DynamiCrafterVisualGuidance": {
            "width": dice.choice([64, 128]),
            "height": 64,
            "frames": dice.choice([2, 4, 8]),
            "fs": dice.choice([0, 15, 30]),
            "fit": dice.choice(["crop", "pad", "stretch"]),
        },
        "DynamiCrafterSampler": {
            "seed": dice.randrange(2**32),
            "steps": dice.randint(1, 3),
            "cfg_text": dice.choice([1.0, 7.5]),
            "cfg_image": dice.choice([1.0, 3.0, 7.5]),
            "eta": dice.choice([0.0, 1.0]),
        },
    }
    return {
        key: {**node, "inputs": {**node["inputs"], **chosen.get(node["class_type"], {})}}
        for key, node in prompt.items()
    }


def cancel(server: comfyui.ComfyUI, prompt: dict[str, Any]) -> None:
    """Queues something long and stops it in the middle of its steps."""
    long = {key: {**node, "inputs": dict(node["inputs"])} for key, node in prompt.items()}
    for node in long.values():
        if node["class_type"] == "DynamiCrafterSampler":
            node["inputs"]["steps"] = 1000
    prompt_id = server.queue(long)
    time.sleep(1)
    server.post("/interrupt", {})
    entry = server.wait(prompt_id, 60)
    assert entry["status"]["status_str"] == "error"
    assert {kind for kind, _ in entry["status"]["messages"]} & {"execution_interrupted"}


def as_stills(prompt: dict[str, Any]) -> dict[str, Any]:
    """Frames saved without loss, instead of the video."""
    kept = {key: node for key, node in prompt.items() if node["class_type"] not in ("CreateVideo", "SaveVideo")}
    (decode,) = (key for key, node in kept.items() if node["class_type"] == "DynamiCrafterDecode")
    inputs = {"images": [decode, 0], "filename_prefix": "soak"}
    return {**kept, "99": {"class_type": "SaveImage", "inputs": inputs}}


def pixels(frames: list[Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(frame).convert("RGB"), dtype=int) for frame in frames])


def resident(server: comfyui.ComfyUI) -> int:
    """Megabytes, once the server has let go of models and results."""
    server.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(2)
    assert server.process
    return psutil.Process(server.process.pid).memory_info().rss // MEGABYTE


@pytest.mark.once
@pytest.mark.slow
def test_many_prompts_leave_nothing_behind(
    host_path: Path, tmp_path: Path, prompt: Callable[..., dict[str, Any]]
) -> None:
    dice = random.Random(0)
    plain = as_stills(prompt("animate_image"))
    wanted = [vary(plain, dice) for _ in range(PROMPTS)]
    checked = {*range(0, PROMPTS, max(1, PROMPTS // 6)), PROMPTS - 1}
    results: dict[int, np.ndarray] = {}
    standins.write_all(tmp_path)
    arguments = ("--cpu", "--use-pytorch-cross-attention")
    with comfyui.ComfyUI(host_path, tmp_path, *arguments) as server:
        level = 0
        for number, one in enumerate(wanted):
            if number % 5 == 2:
                cancel(server, one)
            frames = server.run(one)
            if number in checked:
                results[number] = pixels(frames)
            if number == PROMPTS // 4:
                level = resident(server)
        assert resident(server) < level + 120
        assert "Traceback" not in server.log()
    with comfyui.ComfyUI(host_path, tmp_path, *arguments) as fresh:
        worst = {}
        for number in sorted(checked):
            worst[number] = int(np.abs(pixels(fresh.run(wanted[number])) - results[number]).max())
        # Sums of floats may round another way where memory is aligned another way.
        assert max(worst.values()) <= 1, worst


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(repository.ROOT))  # no longer than here: the host has a module `nodes` of its own
    from benchmarks.torture import soak

    return soak


@pytest.mark.once
@pytest.mark.slow
def test_prompts_of_every_kind_end_as_they_should(host_path: Path, soak: Any) -> None:
    said: list[str] = []
    run = soak.Soak(10, 26, lambda found: None)
    tally = run.run(said.append)
    assert tally.found == [] and tally.tried == 10
    assert {run.kinds[number] for number in range(10)} == set(soak.KINDS)
    assert tally.outcomes["refused"] > 0 and len(run.compared) > 1
    assert len(run.memory.used) == 10 and run.memory.freed and "memory" in said[-1]


def test_a_soak_tells_growing_memory_from_flat(soak: Any) -> None:
    """Whose level goes up and down with what was asked for last."""

    def memory(growth: float) -> Any:
        held = [int((1 + growth * number / 500 + 0.05 * (number % 3 == 0)) * 2**30) for number in range(1, 501)]
        samples = list(enumerate(held, 1))
        return soak.Memory(samples, samples[::4])

    assert memory(0.0).fault() == memory(0.01).fault() == ""
    assert memory(0.04).fault().startswith("memory grows")
    assert soak.Memory([(1, 2**30), (50, 2**31)], [(12, 2**30), (50, 2**31)]).fault() == ""  # too short to tell
    assert "then 1054.7 MB (+3.0%)" in str(
        soak.Memory([(100, 2**30), (500, 2**30)], [(110, 2**30), (500, int(1.03 * 2**30))])
    )


def test_a_soak_tells_other_frames(soak: Any, tmp_path: Path) -> None:
    for number, level in enumerate((0, 3, 3)):
        Image.new("RGB", (8 + number // 2, 8), (level, 0, 0)).save(tmp_path / f"{number}.png")
    black, red, wide = (soak.stills([tmp_path / f"{number}.png", tmp_path / "a.mp4"]) for number in range(3))
    assert black != red and soak.difference(black, red) == "by 3 of 255 at most"
    assert soak.difference(black, wide).startswith("pictures of") and soak.difference(black, []) == "1 and 0 pictures"
