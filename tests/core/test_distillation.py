"""A LoRA learns to go in one step where the model without it comes in several, each of them guided."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_recipes import only, small_recipe

from dynamicrafter_core.diffusion.sampling import DDIM, executed_timesteps
from dynamicrafter_core.diffusion.schedule import NoiseSchedule
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.training import distillation
from dynamicrafter_core.training.clips import ProceduralClips
from dynamicrafter_core.training.distillation import answer_that_leads, distillation_loss
from dynamicrafter_core.training.generate import Dials, generate
from dynamicrafter_core.training.inputs import encode_clips
from dynamicrafter_core.training.model import make_model, save_model
from dynamicrafter_core.training.recipe import Recipe, Stage, parse_recipe
from dynamicrafter_core.training.trainer import Trainer

CPU = torch.device("cpu")
V, EPS = NoiseSchedule("v", zero_snr=True, base_scale=0.7), NoiseSchedule("eps")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = make_model(small_recipe(), CPU, torch.float32)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():  # attention that weighs, for it is what a LoRA can change
        parameter.data.add_((0.3 if "proj_out" in name else 0.05) * torch.randn_like(parameter))
    return save_model(tmp_path_factory.mktemp("taught") / "model.safetensors", model, {}, torch.float32, {})


def recipe(taught: Path, stage: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    settings = {
        "objective": "distillation", "train": [], "steps": 2, "batch": 4, "lr": 0.01, "warmup": 0, "dropout": 0.0, "random_frame": 0.0,
        "interpolate": 0.0, "distillation": {"steps": 2, "substeps": 3, "text_scale": 2.0},
    }  # fmt: skip
    return only("joint", **{**settings, **(stage or {})}, model={}, initial=[str(taught)], lora={"rank": 8}, **changes)


@pytest.mark.parametrize("schedule", [V, EPS])
@pytest.mark.parametrize("spacing", ["uniform", "uniform_trailing"])
def test_the_answer_leads_where_it_should(schedule: NoiseSchedule, spacing: Any) -> None:
    ddim = DDIM(schedule, executed_timesteps(4, spacing), 0)
    for k in range(len(ddim)):
        x, there = torch.randn(2, 2, 4, 2, 3, 3, generator=torch.Generator().manual_seed(k)).unbind(0)
        assert torch.allclose(ddim.step(k, x, answer_that_leads(ddim, k, x, there))[0], there, atol=1e-3)


def test_the_wanted_answer_is_where_guided_sampling_comes(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From pure noise, all steps of the student one after another come where the teacher's many steps with guidance do."""
    trainer = Trainer(
        recipe(taught, {"distillation": {"steps": 1, "substeps": 5, "text_scale": 3.0, "rescale": 0.3}}),
        taught.parent,
        "cpu",
    )
    stage = trainer.recipe.stages[0]
    clips = ProceduralClips(16, 16, 4, fs=(2, 4))("train", range(3))
    rows: Any = [(0, "test", number) for number in range(3)]
    latents = encode_clips(trainer.model, clips, rows)
    for module in trainer.model.parts.values():
        module.eval()
    asked: dict[str, Any] = {}

    def lead(ddim: DDIM, k: int, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        asked.update(x=x, there=there)
        return answer_that_leads(ddim, k, x, there)

    monkeypatch.setattr(distillation, "answer_that_leads", lead)
    assert trainer.lora is not None
    distillation_loss(trainer.model, trainer.lora, latents, stage, trainer.schedule, rows)
    seen: dict[str, Any] = {}
    monkeypatch.setattr("dynamicrafter_core.training.generate.decode", lambda model, z: seen.update(z=z))
    monkeypatch.setattr("dynamicrafter_core.training.generate.normal", lambda *_: asked["x"])
    monkeypatch.setattr("dynamicrafter_core.training.generate.picture_latents", lambda *_: latents.z[:, :, 0])
    dials = Dials(steps=5, text_scale=3.0, rescale=0.3, eta=0.0)
    generate(trainer.model, clips.pixels[:, :, 0], clips.captions, clips.fs, 4, dials)
    assert torch.allclose(seen["z"], asked["there"], atol=1e-3)


def test_a_student_alone_learns_and_its_file_is_a_lora(taught: Path, tmp_path: Path) -> None:
    trainer = Trainer(recipe(taught, {"steps": 3}), tmp_path, "cpu")
    before = copy.deepcopy(trainer.model.state())
    file = trainer.run()
    assert file is not None and all(torch.equal(value, before[name]) for name, value in trainer.model.state().items())
    ups = [tensor for name, tensor in load_file(file).items() if name.endswith("lora_up.weight")]
    assert ups and all(float(up.abs().max()) > 0 for up in ups)


def test_the_teacher_is_the_model_without_the_lora(taught: Path, tmp_path: Path) -> None:
    trainer = Trainer(recipe(taught), tmp_path, "cpu")
    unet, lora = trainer.model.part("unet").eval(), trainer.lora
    assert lora is not None
    x = (torch.randn(1, 8, 4, 8, 8), torch.tensor([500]), torch.randn(1, 5, 8), torch.randn(1, 4, 2, 8))
    with torch.no_grad():
        plain = unet(*x)
        for layer in lora.layers:
            layer.up.weight.add_(0.1)  # type: ignore[union-attr,operator]
        assert not torch.allclose(unet(*x), plain, atol=1e-3)
        with lora.silent():
            assert torch.equal(unet(*x), plain)
        with pytest.raises(KeyboardInterrupt), lora.silent():
            raise KeyboardInterrupt
        assert not torch.allclose(unet(*x), plain, atol=1e-3)  # whole again, also after a stop


@pytest.mark.slow
def test_a_student_comes_nearer_to_its_teacher(taught: Path, tmp_path: Path) -> None:
    """Clips of 2 steps without guidance are liker those of 4 guided steps than before."""
    distilled = {"steps": 2, "substeps": 2, "text_scale": 4.0, "rescale": 0.0}
    stage = {"steps": 60, "batch": 8, "micro": 0, "reuse": 4, "ema": 0.9, "distillation": distilled}
    trainer = Trainer(recipe(taught, stage), tmp_path, "cpu")
    clips = ProceduralClips(16, 16, 4, fs=(2, 4), seed=5)("held-out", range(16))

    def make(dials: Dials) -> torch.Tensor:
        return generate(trainer.model, clips.pixels[:, :, 0], clips.captions, clips.fs, 4, dials)

    few, many = Dials(2, 1.0, eta=0.0, rescale=0.0), Dials(4, 4.0, eta=0.0, rescale=0.0)
    wanted, before = make(many), make(few)
    trainer.run()
    error, was = (float(((made - wanted) ** 2).mean()) for made in (make(few), before))
    assert error < 0.95 * was  # a network of random weights and a small LoRA: 0.88


def test_a_distillation_without_a_lora_is_refused() -> None:
    stage = {"name": "few", "objective": "distillation", "train": [], "steps": 1, "batch": 1}
    with pytest.raises(InputError, match='distils without a LoRA.*add "lora"'):
        parse_recipe({"name": "x", "seed": 1, "family": "dynamicrafter_512", "data": {}, "stages": [stage]})
    with pytest.raises(InputError, match="distillation has an unknown setting 'step'; the nearest is steps"):
        parse_recipe({"stages": [{**stage, "distillation": {"step": 2}}]})
    assert Stage("few", "distillation", (), 1, 1).distillation.steps == 4
