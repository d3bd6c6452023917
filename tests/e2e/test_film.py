"""A film in a server that is killed: started again, it goes on, and ends as a film that nothing happened to."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import comfyui
import numpy as np
import pytest

SIX = "\n".join(
    (
        "seconds: 1",
        "example.png | the camera zooms in | dissolve 0.25 s",
        "example.png | it gets dark | continue",
        "            | the camera pans left | 3 s | cut",
        "example.png | it gets bright | seed 9",
        "example.png | the camera zooms out | morph 0.5 s",
        "example.png | the camera pans right",
    )
)
FRAMES = 5 * 8 + 3 * 8 - 2 + 4


def pixels(video: Path) -> np.ndarray:
    with av.open(video) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.once
def test_a_killed_server_goes_on_with_its_film(
    server: comfyui.ComfyUI, prompt: Callable[..., dict], tmp_path: Path
) -> None:
    told: dict[str, Any] = prompt("film")
    (film,) = (node["inputs"] for node in told.values() if node["class_type"] == "DynamiCrafterFilm")
    film["script"] = SIX
    takes = tmp_path / "output" / "dynamicrafter_takes"

    def made() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in takes.glob("[!.]*.safetensors")}

    with comfyui.ComfyUI(server.host, tmp_path, *server.arguments) as killed:
        killed.queue(told)
        deadline = time.monotonic() + 120
        while len(made()) < 3:  # the third shot has two takes
            assert time.monotonic() < deadline, killed.log()[-2000:]
            time.sleep(0.01)
        assert killed.process is not None
        killed.process.kill()
        killed.process.wait()
    there = made()
    assert len(there) < 8
    with comfyui.ComfyUI(server.host, tmp_path, *server.arguments) as again:
        (video,) = again.run(told)
    assert {name: made()[name] for name in there} == there
    (whole,) = server.run(told)
    assert pixels(video).shape[0] == FRAMES
    assert np.array_equal(pixels(video), pixels(whole))
