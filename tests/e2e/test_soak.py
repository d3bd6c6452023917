"""Many prompts in a row, some of them cancelled: memory returns to its level, and results are those of a fresh server.

SOAK=100 in the environment runs the long form.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfyui
import numpy as np
import psutil
import pytest
import standins
from PIL import Image

PROMPTS = int(os.environ.get("SOAK", 12))
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
