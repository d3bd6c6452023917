"""What a clip costs, whether precisions agree, and whether the recorded command makes the recorded loss."""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from dynamicrafter_core.pipeline.pipeline import Pipeline
from dynamicrafter_core.training.measures import psnr
from dynamicrafter_core.training.recipe import parse_recipe
from dynamicrafter_core.training.trainer import Trainer

from .subject import Row, Subject

MOST_SECONDS = 20.0
LEAST_AGREEMENT = 30.0  # dB between precisions
REPLAY_TOLERANCE = 0.05


def speed(subject: Subject) -> list[Row]:
    """One clip through the library, as a user makes it, with the model's own defaults."""
    clips = subject.clips(4000, 1, ("pan_left",))
    picture = ((clips.pixels[0, :, 0].permute(1, 2, 0).cpu() + 1) * 127.5).round().byte().numpy()
    made = {}
    rows = []
    for name in ("fp32", "bf16", "fp16"):
        pipeline = Pipeline(subject.path, device=subject.device, dtype=name)
        started = time.monotonic()
        frames = torch.as_tensor(pipeline.animate(picture, clips.captions[0], seed=1).frames).float() / 127.5 - 1
        seconds = time.monotonic() - started
        made[name] = frames
        limit = f"<= {MOST_SECONDS:g} on two cores" if name == "fp32" else ""
        rows.append(Row("6", f"a clip in {name}, s", seconds, limit, seconds <= MOST_SECONDS if limit else None))
    for name in ("bf16", "fp16"):
        value = float(psnr(made[name][None], made["fp32"][None]))
        rows.append(Row("6", f"{name} to fp32, PSNR dB", value, f">= {LEAST_AGREEMENT:g}", value >= LEAST_AGREEMENT))
    return rows


def replay(subject: Subject) -> list[Row]:
    """The first steps of the recorded run, again: the loss that its log says."""
    from safetensors import safe_open

    log = subject.path.with_name("log.jsonl")
    with safe_open(subject.path, framework="pt") as file:
        source = (file.metadata() or {}).get("recipe")
    if source is None or not log.is_file():
        return [Row("7", f"no recipe in {subject.path.name}, or no log.jsonl beside it", 0.0, "both", False)]
    recorded = next(e for e in map(json.loads, log.read_text().splitlines()) if e["kind"] == "training")
    recipe = parse_recipe(json.loads(source), str(subject.path), source)
    recipe = replace(recipe, evaluate_every=10**9, save_seconds=1e9)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), str(subject.device))
        step = trainer._step

        def counted(*given: object) -> object:
            trainer.stopped = trainer.total + 1 >= recorded["step"]
            return step(*given)  # type: ignore[arg-type]

        trainer._step = counted  # type: ignore[method-assign,assignment]
        trainer.run()
        again = next(e for e in trainer.folder.entries() if e["total"] == recorded["total"])
    off = abs(again["loss"] - recorded["loss"]) / recorded["loss"]
    what = f"replay to step {recorded['step']}: loss {again['loss']:.5g}, recorded {recorded['loss']:.5g}, off by"
    return [Row("7", what, off, f"<= {REPLAY_TOLERANCE:g}", off <= REPLAY_TOLERANCE)]
