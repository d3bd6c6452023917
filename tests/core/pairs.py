"""Every pair of controls, tried together on a small model: it makes a clip, or refuses in a sentence."""

import warnings
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from micro import ANIMATE, HEIGHT, INTERPOLATE, WIDTH, micro_sketch_encoder, picture

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.pipeline.pipeline import Pipeline

FRAMES = 4
VIDEO = torch.from_numpy(np.stack([picture(seed, WIDTH, HEIGHT) for seed in range(FRAMES)]))
BRUSH = np.zeros((40, 60), np.float32)
BRUSH[:, :30] = 1

# Option -> its value; texts of the same option are joined.
CONTROLS: dict[str, dict[str, Any]] = {
    "shared noise": {"noise": "mixed 1"},
    "camera path in the noise": {"noise_path": "pan 0.25 0"},
    "FreeInit": {"freeinit": 1, "start_step": 940},
    "lambda by part": {"motion": "middle 2, to 0.5"},
    "motion strength": {"motion": "strength 0.5 1.5"},
    "motion temperature": {"motion": "temperature 0.5"},
    "first-frame attention": {"motion": "beside 0.5"},
    "causal temporal attention": {"motion": "causal"},
    "context strength": {"context_strength": 2.0},
    "image guidance": {"image_scale": 3.0},
    "no guidance": {"text_scale": 1.0},
    "guidance curve": {"text_scale": "0: 9, 1: 3"},
    "guidance limits": {"guidance_limits": "from 0.1, to 0.8"},
    "projected guidance": {"guidance_limits": "parallel 0, norm 0.5, momentum -0.5"},
    "drawings": {"sketches": {2: picture(4)}},
    "speed": {"speed": "fast"},
    "negative image": {"negative_image": picture(2)},
    "references": {"references": [picture(3)], "reference_weights": [0.5]},
    "start step": {"start_step": 960},
    "strength below 1": {"strength": 0.5, "original": VIDEO},
    "mask": {"mask": [1.0] * 2 + [0.0] * 2, "original": VIDEO},
    "fresh noise 0 (eta)": {"eta": 0.0},
    "strokes": {"strokes": "20,20 -> 40,20; until 0.9"},
    "camera in strokes": {"strokes": "camera pan 0.25 0; until 0.9"},
    "motion brush": {"brush": BRUSH},
    "windows": {"window": 3, "overlap": 1},
    "locked frame": {"lock": 1},
    "detail for half of the run": {"picture_strengths": (0.5,)},
    "interpolation": {"mode": "interpolate"},
    "loop": {"mode": "loop"},
    "flight": {"mode": "fly"},
}


def refused(pipelines: Mapping[str, Pipeline], *names: str) -> str:
    """What is said of these controls together; nothing where they make a clip."""
    given = joined(*(CONTROLS[name] for name in names))
    mode = given.pop("mode", "animate")
    if "sketches" in given:
        given["sketch_encoder"] = sketch_encoder(pipelines[mode].path.parent)
    images = [picture(), *{"interpolate": [picture(1)], "fly": [VIDEO]}.get(mode, [])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            frames = getattr(pipelines[mode], mode)(
                *images, prompt="a cat", steps=1, seed=5, frames=FRAMES, **given
            ).frames
        except InputError as error:
            return str(error)
    assert frames.shape == (FRAMES - (mode == "loop"), HEIGHT, WIDTH, 3)
    assert frames.float().std() > 0
    return ""


def sketch_encoder(folder: Path) -> Path:
    path = folder / "sketch_encoder.safetensors"
    return path if path.exists() else micro_sketch_encoder(path)


def load(model_of: Callable[[str], Path]) -> dict[str, Pipeline]:
    """Mode -> a model that can do it."""
    interpolates = Pipeline(model_of(INTERPOLATE))
    animates = Pipeline(model_of(ANIMATE))
    return {"animate": animates, "fly": animates, "interpolate": interpolates, "loop": interpolates}


def joined(*options: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for each in options:
        for name, value in each.items():
            mark = {"motion": ", ", "guidance_limits": ", ", "strokes": "; "}.get(name)
            made[name] = f"{made[name]}{mark}{value}" if mark and name in made else value
    return made


def try_all(pipelines: Mapping[str, Pipeline]) -> dict[tuple[str, str], str]:
    pairs = [pair for pair in combinations(CONTROLS, 2) if not all("mode" in CONTROLS[name] for name in pair)]
    return {pair: refused(pipelines, *pair) for pair in pairs}


def table(said: Mapping[tuple[str, str], str]) -> str:
    """A mark for each pair, and under it the sentence of each that is refused."""
    names, notes = list(CONTROLS), list(dict.fromkeys(filter(None, said.values())))
    lines = ["| | " + " | ".join(str(number + 1) for number in range(len(names) - 1)) + " |", "|---" * len(names) + "|"]
    for row, name in enumerate(names):
        marks = []
        for column in names[: len(names) - 1]:
            answer = said.get((column, name))
            marks.append("" if answer is None else f"no ({notes.index(answer) + 1})" if answer else "yes")
        lines.append(f"| {row + 1}. {name} | " + " | ".join(marks) + " |")
    return "\n".join([*lines, "", *(f"{number + 1}. {note}" for number, note in enumerate(notes))]) + "\n"
