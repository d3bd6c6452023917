"""Training trains: minutes of it, and the model does what it did not before."""

import copy
import json
from pathlib import Path

import pytest
import torch

from dynamicrafter_core.pipeline.pipeline import Pipeline
from dynamicrafter_core.training.clips import ProceduralClips
from dynamicrafter_core.training.evaluate import evaluate_losses, evaluate_motion
from dynamicrafter_core.training.generate import Dials
from dynamicrafter_core.training.measures import psnr
from dynamicrafter_core.training.model import Model, load_model
from dynamicrafter_core.training.recipe import read_recipe
from dynamicrafter_core.training.trainer import Trainer

pytestmark = pytest.mark.slow
COUNT = 18


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], dict[str, float], Path]:
    """Figures on held-out clips before and after the tiny recipe's diffusion stages, and its folder."""
    recipe, folder = read_recipe("tiny"), tmp_path_factory.mktemp("tiny")
    trainer = Trainer(recipe, folder, "cpu")
    untrained = copy.deepcopy(trainer.model.parts)
    result = trainer.run()
    assert result is not None
    model = load_model([result], torch.device("cpu"), torch.float32)
    # With the same autoencoder, or the latents whose loss is compared would be others.
    before = Model(model.family, {**untrained, "autoencoder": model.parts["autoencoder"]})
    return figures(before), figures(model), folder


def figures(model: Model) -> dict[str, float]:
    data = {name: value for name, value in read_recipe("tiny").data.items() if name != "kind"}
    clips = ProceduralClips(**data, seed=99)("held-out", range(COUNT))
    rows = [(99, number) for number in range(COUNT)]
    return {
        **evaluate_losses(model, clips, rows),
        **evaluate_motion(model, clips, Dials(steps=5, text_scale=2.0)).figures,
    }


def test_the_loss_falls_at_every_noise_level(trained) -> None:  # noqa: ANN001
    before, after, _ = trained
    for name in ("loss_999", "loss_800", "loss_400"):
        assert after[name] < before[name] * (0.5 if name != "loss_400" else 0.8)


def test_the_prompt_is_heeded(trained) -> None:  # noqa: ANN001
    before, after, _ = trained
    assert after["loss_999"] < after["loss_999_opposite"] / 2
    assert before["loss_999"] == pytest.approx(before["loss_999_opposite"], rel=0.05)


def test_clips_move_as_the_prompt_says_more_often_than_before(trained) -> None:  # noqa: ANN001
    before, after, _ = trained
    assert after["motion"] >= max(0.6, before["motion"] + 0.2)


def test_the_picture_is_kept_better_than_before(trained) -> None:  # noqa: ANN001
    before, after, _ = trained
    assert after["image_psnr"] > before["image_psnr"] + 2


def test_the_log_tells_of_the_fall(trained) -> None:  # noqa: ANN001
    lines = [json.loads(line) for line in (trained[2] / "log.jsonl").read_text().splitlines()]
    for stage in ("autoencoder", "towers"):  # losses of diffusion differ more by timestep than by what is learned
        losses = [line["loss"] for line in lines if line["stage"] == stage and line["kind"] == "training"]
        assert sum(losses[-3:]) < sum(losses[:3])


def test_the_library_animates_with_the_file(trained) -> None:  # noqa: ANN001
    pipeline = Pipeline(trained[2] / "model.safetensors", device="cpu")
    given = ProceduralClips(32, 32, 4, ["still"], seed=99)("held-out", [0]).pixels[0, :, 0]
    picture = ((given.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    dark, bright = (
        torch.as_tensor(pipeline.animate(picture, prompt, seed=1, text_scale=2.0).frames).float()
        for prompt in ("fade to black", "fade to white")
    )
    assert dark.shape == (4, 32, 32, 3)
    assert dark[-1].mean() < bright[-1].mean() - 20
    assert float(psnr(dark[:1] / 127.5 - 1, bright[:1] / 127.5 - 1)) > 15  # the same picture to begin with
