"""The model that ships with the pack: how it says it was made, and what it does with pictures it was never trained on."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors import safe_open

from dynamicrafter_core import Pipeline
from dynamicrafter_core.families import FAMILIES
from dynamicrafter_core.pipeline.pipeline import EMBEDDED
from dynamicrafter_core.training.clips import MovedClips, ProceduralClips
from dynamicrafter_core.training.evaluate import evaluate_autoencoder, evaluate_motion, opposite_captions
from dynamicrafter_core.training.generate import Dials, generate
from dynamicrafter_core.training.measures import psnr
from dynamicrafter_core.training.model import Model, change_model, load_model, make_model
from dynamicrafter_core.training.motions import MOTIONS
from dynamicrafter_core.training.recipe import parse_recipe

pytestmark = pytest.mark.slow

FILE = EMBEDDED / "model.safetensors"
DIALS = Dials(steps=10)
SIDE = 64  # of its clips


@pytest.fixture(scope="module")
def metadata() -> dict[str, str]:
    with safe_open(FILE, framework="pt") as file:
        return dict(file.metadata())


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model([FILE], torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def held_out(metadata: dict[str, str], model: Model) -> Any:
    """Held-out clips: one of each kind of motion that its recipe begins with."""
    motions = json.loads(metadata["recipe"])["data"]["motions"]
    source = ProceduralClips(model.family.height, model.family.width, model.family.frames, motions)
    return source("held-out", range(500, 500 + len(motions)), motions=motions, fs=[12] * len(motions))


def test_it_is_small_and_carries_its_recipe_licence_and_command(metadata: dict[str, str]) -> None:
    assert FILE.stat().st_size <= 32_000_000
    assert metadata["recipe"] == (EMBEDDED / "embedded.json").read_text(encoding="utf-8")
    assert metadata["license"] == "Apache-2.0"
    assert metadata["command"] == "dynamicrafter train embedded"
    recipe = parse_recipe(json.loads(metadata["recipe"]))
    assert int(metadata["seed"]) == recipe.seed
    assert int(metadata["steps"]) == recipe.total_steps()


def test_its_recipe_makes_a_model_of_its_shapes(metadata: dict[str, str], model: Model) -> None:
    recipe = parse_recipe(json.loads(metadata["recipe"]))
    made = make_model(recipe, torch.device("cpu"), torch.float32, grown=False)
    for stage in recipe.stages:
        made = change_model(made, recipe.growth_before(stage), stage.figures, recipe.seed)
    shapes = [{name: tensor.shape for name, tensor in each.state().items()} for each in (made, model)]
    assert shapes[0] == shapes[1]
    for figure in ("width", "height", "frames", "steps", "cfg", "fs_default", "modes"):
        assert getattr(made.family, figure) == getattr(model.family, figure)


def test_its_log_goes_from_the_first_stage_to_the_last_step(metadata: dict[str, str]) -> None:
    entries = [json.loads(line) for line in (EMBEDDED / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    recipe = parse_recipe(json.loads(metadata["recipe"]))
    assert list(dict.fromkeys(entry["stage"] for entry in entries)) == [stage.name for stage in recipe.stages]
    assert [entry["total"] for entry in entries] == sorted(entry["total"] for entry in entries)
    assert entries[-1]["total"] == recipe.total_steps()


def test_it_is_of_the_family_and_holds_all_parts(model: Model) -> None:
    family = model.family
    assert (family.name, family.width, family.height, family.frames) == ("dynamicrafter_512", SIDE, SIDE, 16)
    assert family.parameterization == FAMILIES["dynamicrafter_512"].parameterization
    assert set(model.parts) == {"unet", "projector", "autoencoder", "text", "vision"}


def test_its_autoencoder_keeps_pictures(model: Model, held_out: MovedClips) -> None:
    assert evaluate_autoencoder(model, held_out).figures["psnr"] >= 26


def test_clips_move_as_the_prompt_says_and_the_other_way_under_the_opposite_one(
    model: Model, held_out: MovedClips
) -> None:
    opposite = replace(
        held_out,
        captions=opposite_captions(held_out),
        motions=[MOTIONS[motion].opposite or motion for motion in held_out.motions],
    )
    for clips in (held_out, opposite):
        figures = evaluate_motion(model, clips, DIALS).figures
        assert figures["motion"] >= 7 / 9
        assert figures["image_psnr"] >= 22


def test_interpolation_begins_and_ends_with_its_pictures(model: Model, held_out: MovedClips) -> None:
    first, last = held_out.pixels[:4, :, 0], held_out.pixels[:4, :, -1]
    made = generate(model, first, held_out.captions[:4], held_out.fs[:4], 16, DIALS, last)
    assert psnr(made[:, :, 0], first).mean() >= 20
    assert psnr(made[:, :, -1], last).mean() >= 20


def test_the_more_its_image_weighs_the_less_moves(model: Model, held_out: MovedClips) -> None:
    moving = [row for row, motion in enumerate(held_out.motions) if motion.startswith(("pan", "zoom"))]
    pictures, captions = held_out.pixels[moving, :, 0], [held_out.captions[row] for row in moving]
    changes = []
    for strength in (0.5, 1.0, 2.0, 3.0):
        made = generate(model, pictures, captions, held_out.fs[moving], 16, replace(DIALS, image_strength=strength))
        changes.append(float((made.diff(dim=2) ** 2).mean()))
    assert changes == sorted(changes, reverse=True)


def test_the_library_finds_it_by_name_and_repeats_itself(held_out: MovedClips) -> None:
    picture = ((held_out.pixels[0, :, 0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    pipeline = Pipeline("embedded")
    first, again, other = (pipeline.animate(picture, "zoom in", seed=seed, steps=2).frames for seed in (1, 1, 2))
    assert first.shape == (16, SIDE, SIDE, 3)
    assert torch.equal(torch.as_tensor(first), torch.as_tensor(again))
    assert not torch.equal(torch.as_tensor(first), torch.as_tensor(other))
