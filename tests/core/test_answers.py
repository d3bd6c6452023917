"""A decoder learns from latents that the UNet made, in place of encoded ones."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_recipes import only, small_recipe

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.training.answers import Answers, answer
from dynamicrafter_core.training.clips import Clips, ProceduralClips
from dynamicrafter_core.training.model import make_model
from dynamicrafter_core.training.objectives import autoencoder_loss
from dynamicrafter_core.training.recipe import Recipe
from dynamicrafter_core.training.trainer import Trainer

CPU = torch.device("cpu")


def clips(first: int, count: int = 8, motions: Sequence[str] = ("still", "pan_left")) -> Clips:
    return ProceduralClips(16, 16, 4, motions=motions, fs=(2, 4))("train", range(first, first + count))


def recipe(**changes: object) -> Recipe:
    asked = {"answers": 1.0, "answer_steps": 2, "train": ["autoencoder.decoder*"], "lr": 0.01, "warmup": 0, "frames": 2}
    return only("autoencoder", **{**asked, **changes})


def test_the_share_of_clips_is_answered_frame_by_frame() -> None:
    model, batch = make_model(small_recipe(), CPU, torch.float32), clips(0, 32)
    rows = [(1, number) for number in range(32)]
    answers = answer(model, batch, recipe(answers=0.5).stages[0], rows)
    count = int(answers.given.sum())
    assert 6 < count < 26 and answers.latents.shape == (count, 4, 4, 8, 8)
    encoded, index = torch.zeros(32, 2, 4, 8, 8), torch.tensor([[3, 1]]).expand(32, 2)
    latents = answers.stand_in(encoded, index)
    assert torch.equal(latents[answers.given], answers.latents[:, [3, 1]])
    assert not latents[~answers.given].any()
    none = answer(model, batch, recipe(answers=0.0).stages[0], rows)
    assert none.stand_in(encoded, index) is encoded


def test_what_was_answered_is_decoded_in_place_of_what_is_encoded() -> None:
    """Of clips that stand still, so that it does not matter which frames are drawn."""
    model, batch = make_model(small_recipe(), CPU, torch.float32), clips(0, motions=["still"])
    stage = recipe(perceptual=0.0, kl=0.0).stages[0]
    latents = torch.randn(8, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    answers = Answers(torch.arange(8) > 0, latents[1:].expand(-1, 4, -1, -1, -1))
    rows = [(1, number) for number in range(8)]
    loss, _ = autoencoder_loss(model, batch, stage, rows, answers=answers)
    plain, _ = autoencoder_loss(model, clips(0, 1, motions=["still"]), stage, rows[:1])
    with torch.no_grad():
        made = model.part("autoencoder").decode(latents[1:, 0])
    wanted = 7 * (made - batch.pixels[1:, :, 0]).square().mean() + plain
    assert float(loss) == pytest.approx(float(wanted) / 8, rel=1e-4)


def test_a_run_with_answers_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    whole = Trainer(recipe(steps=3, answers=0.5), tmp_path / "whole", "cpu").run()
    assert Trainer(recipe(steps=3, answers=0.5), tmp_path / "parts", "cpu").run(minutes=0) is None
    parts = Trainer(recipe(steps=3, answers=0.5), tmp_path / "parts", "cpu").run()
    assert whole is not None and parts is not None
    one, other = load_file(whole), load_file(parts)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_without_a_unet_nothing_answers(tmp_path: Path) -> None:
    parts = {name: figures for name, figures in small_recipe().model.items() if name != "unet"}
    with pytest.raises(InputError, match="no unet part"):
        Trainer(recipe(model=parts), tmp_path, "cpu").run()
