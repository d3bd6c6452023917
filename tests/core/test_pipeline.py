"""Whole clips from small models: the frames, and the messages about them."""

import math
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, INTERPOLATE, TOON, WIDTH, Spy, picture
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dynamicrafter_core.camera.camera import Camera
from dynamicrafter_core.checkpoints import checkpoint as checkpoint_module
from dynamicrafter_core.checkpoints.checkpoint import Checkpoint, load_checkpoint
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.families import FAMILIES, FINE_TUNES
from dynamicrafter_core.media.images import fit_image, read_image
from dynamicrafter_core.media.saving import read_settings
from dynamicrafter_core.models.dual_reference import DualReferenceAutoencoder
from dynamicrafter_core.models.preprocess import preprocess_for_clip
from dynamicrafter_core.pipeline.pipeline import Pipeline


def plain_composition(path: Path, image: np.ndarray, prompt: str, seed: int, steps: int, cfg: float, cfg_image: float):
    """Animation with dual guidance, written down once more from the papers' formulas, one branch at a time."""
    checkpoint = load_checkpoint(path)
    text_tower, vision, projector, coder, unet = (
        checkpoint.load(part) for part in ("text", "vision", "projector", "autoencoder", "unet")
    )
    generator = torch.Generator().manual_seed(seed)
    pixels = read_image(image)
    # conditions
    words, nothing = text_tower.encode([prompt]), text_tower.encode([""])
    tokens = projector(vision(preprocess_for_clip(pixels[None], 28)))
    grey = projector(vision(preprocess_for_clip(torch.zeros_like(pixels)[None], 28)))
    mean, logvar = coder.encode(fit_image(pixels, WIDTH, HEIGHT)[None])
    z = 0.18215 * (mean + torch.exp(logvar / 2) * torch.randn(mean.shape, generator=generator))
    concat = torch.stack([z] * FRAMES, dim=2)
    # schedule: zero terminal SNR, dynamic rescale to 0.7
    root = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).pow(2).neg().add(1).cumprod(0).sqrt()
    ac = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    scale = torch.cat([torch.linspace(1, 0.7, 400), torch.full((600,), 0.7)])
    times = [round(1000 - k * 1000 / steps) - 1 for k in range(steps)]
    # sampling
    x = torch.randn(1, 4, FRAMES, *z.shape[2:], generator=generator)
    for k, t in enumerate(times):
        given = torch.cat([x, concat], dim=1)
        c, u, i = (
            unet(given, torch.tensor([t]), text, image, torch.tensor([24]))
            for text, image in ((words, tokens), (nothing, grey), (nothing, tokens))
        )
        v = u + cfg_image * (i - u) + cfg * (c - i)
        v = 0.7 * v * c.std() / v.std() + 0.3 * v
        last = k == steps - 1
        a, previous = ac[t].item(), ac[0 if last else times[k + 1]].item()
        x0 = a**0.5 * x - (1 - a) ** 0.5 * v
        eps = a**0.5 * v + (1 - a) ** 0.5 * x
        x0 = x0 * (1.0 if last else (scale[times[k + 1]] / scale[t]).item())
        sigma = math.sqrt((1 - previous) / (1 - a) * (1 - a / previous))
        noise = torch.randn(x.shape, generator=generator)
        x = previous**0.5 * x0 + math.sqrt(max(0, 1 - previous - sigma**2)) * eps + sigma * noise
    frames = torch.cat([coder.decode(x[:, :, f] / 0.18215) for f in range(FRAMES)])
    return ((frames.clamp(-1, 1) + 1) / 2 * 255).byte().permute(0, 2, 3, 1)


@pytest.mark.slow
def test_animation_with_dual_guidance_equals_the_plain_composition(model_of: Callable[[str], Path]) -> None:
    with torch.no_grad():
        expected = plain_composition(
            model_of(ANIMATE), picture(), "a cat runs", seed=7, steps=2, cfg=7.5, cfg_image=3.0
        )
    clip = Pipeline(model_of(ANIMATE)).animate(picture(), "a cat runs", seed=7, steps=2, image_scale=3.0)
    difference = (clip.frames.int() - expected.int()).abs()
    assert difference.max() <= 1 and difference.float().mean() < 0.05  # fp32, cut off to whole numbers
    assert expected.float().std() > 10  # of a picture, not of a plain


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, *FINE_TUNES])
def test_every_variant_does_all_it_is_said_to(model_of: Callable[[str], Path], name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no analytic noise at hand
        pipeline = Pipeline(model_of(name))
        for mode in pipeline.family.modes:
            images = {"animate": 1, "loop": 1, "interpolate": 2, "generate": 0, "fly": 1}[mode]
            guide = [Camera("orbit left")] if mode == "fly" else []
            clip = getattr(pipeline, mode)(*map(picture, range(images)), *guide, prompt="a cat", steps=1)
            assert clip.frames.shape == (FRAMES - (mode == "loop"), HEIGHT, WIDTH, 3)
            assert clip.frames.dtype == torch.uint8 and clip.frames.float().std() > 1
            assert clip.fps == pipeline.family.save_fps


@pytest.mark.slow
def test_the_same_seed_gives_the_same_clip_and_another_one_another(model_of: Callable[[str], Path]) -> None:
    pipeline = Pipeline(model_of(ANIMATE))
    first, again, other = (pipeline.animate(picture(), "a cat", steps=2, seed=seed).frames for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_keeping_parts_loaded_changes_no_number(model_of: Callable[[str], Path]) -> None:
    kept, freed = (Pipeline(model_of(TOON), keep_loaded=keep) for keep in (True, False))
    images = picture(0), picture(1)
    assert torch.equal(
        kept.interpolate(*images, "a cat", steps=1).frames, freed.interpolate(*images, "a cat", steps=1).frames
    )


def test_without_keeping_no_two_parts_are_loaded_at_once(
    model_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[torch.nn.Module]] = []
    order = []
    load = Checkpoint.load

    def watched(self: Checkpoint, part: Any, *args: Any, **named: Any) -> torch.nn.Module:
        assert not [module for reference in alive if (module := reference()) is not None]
        order.append(part)
        module = load(self, part, *args, **named)
        alive.append(weakref.ref(module))
        return module

    monkeypatch.setattr(checkpoint_module.Checkpoint, "load", watched)
    Pipeline(model_of(ANIMATE), keep_loaded=False).animate(picture(), "a cat", steps=1)
    assert order == ["text", "vision", "projector", "autoencoder", "unet", "autoencoder"]
    assert not [module for reference in alive if (module := reference()) is not None]


def test_frames_belong_to_the_caller(model_of: Callable[[str], Path], spy: Spy) -> None:
    frames = Pipeline(model_of(ANIMATE)).animate(picture(), steps=1).frames
    frames += 1  # a tensor of inference mode would refuse


@pytest.mark.slow
def test_bf16_weights_keep_the_latents_in_fp32(model_of: Callable[[str], Path], spy: Spy) -> None:
    seen = []
    spy.answer = lambda out: seen.append(out.dtype) or out  # type: ignore[func-returns-value]
    pipeline = Pipeline(model_of(ANIMATE), dtype="bf16")
    clip = pipeline.animate(picture(), "a cat", steps=20, eta=0)
    exact = Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", steps=20, eta=0)
    assert set(seen) == {torch.bfloat16, torch.float32}
    assert clip.settings["dtype"] == "bfloat16"
    assert (clip.frames.int() - exact.frames.int()).abs().float().mean() < 3


@pytest.mark.slow
def test_a_whole_model_in_bf16_gives_nearly_the_same_clip(model_of: Callable[[str], Path]) -> None:
    half, full = (
        Pipeline(model_of(ANIMATE), dtype=dtype).animate(picture(), "cat", steps=2) for dtype in ("bf16", "fp32")
    )
    assert (half.frames.int() - full.frames.int()).abs().float().mean() < 8


def test_too_narrow_a_dtype_is_named_instead_of_black_frames(model_of: Callable[[str], Path], spy: Spy) -> None:
    spy.answer = math.nan
    with pytest.raises(InputError, match="NaN.*bf16"):
        Pipeline(model_of(ANIMATE)).animate(picture(), steps=1)


@pytest.mark.slow
def test_toon_frames_are_decoded_twice_for_their_middle(model_of: Callable[[str], Path], spy: Spy) -> None:
    spy.answer = lambda out: 0.3 * out
    clip = Pipeline(model_of(TOON)).interpolate(picture(0), picture(1), "a cat", steps=1, eta=0.0)

    coder: Any = load_checkpoint(model_of(TOON)).load("autoencoder")
    generator = torch.Generator().manual_seed(123)
    ends = torch.stack([fit_image(read_image(picture(index)), WIDTH, HEIGHT) for index in (0, 1)])
    with torch.no_grad():
        mean, _, hidden = coder.encode(ends, return_hidden=True)
        torch.randn(mean.shape, generator=generator)
        noise = torch.randn(1, 4, FRAMES, HEIGHT // 2, WIDTH // 2, generator=generator)
        # One step from t = 999, where all is noise: v = 0.3 x of it, rescaled no further; x0 = -v, and ac[0] goes on.
        ac = 0.99915
        z = ac**0.5 * -0.3 * noise + (1 - ac) ** 0.5 * noise
        z = (z[0] / 0.18215).transpose(0, 1)
        once = coder.decode(z, coder.references(hidden))
        twice = coder.decode(z[[0, *range(2, 14), 15]], coder.references(hidden))
    expected = once.clone()
    expected[7], expected[8] = twice[6], twice[7]
    pictures = ((expected.clamp(-1, 1) + 1) / 2 * 255).byte().permute(0, 2, 3, 1)
    assert (clip.frames.int() - pictures.int()).abs().max() <= 1


def test_toon_middle_frames_come_from_the_second_pass(
    model_of: Callable[[str], Path], spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []

    def decode(self: Any, z: Tensor, references: Any, chunk: int) -> Tensor:
        passes.append(z)
        level = torch.full((len(z),), -1.0) if len(passes) == 1 else torch.linspace(0, 1, len(z))
        return level[:, None, None, None].expand(-1, 3, HEIGHT, WIDTH)

    monkeypatch.setattr(DualReferenceAutoencoder, "decode", decode)
    clip = Pipeline(model_of(TOON)).interpolate(picture(0), picture(1), steps=1)
    first, second = passes
    assert torch.equal(second, first[[0, *range(2, 14), 15]])
    expected = [0] * 7 + [int((1 + k / 13) / 2 * 255) for k in (6, 7)] + [0] * 7
    assert clip.frames[:, 0, 0, 0].tolist() == expected


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 6, 9])
@pytest.mark.filterwarnings("ignore:.*frames are asked for")
def test_toon_clips_of_any_length_decode(model_of: Callable[[str], Path], spy: Spy, frames: int) -> None:
    clip = Pipeline(model_of(TOON)).interpolate(picture(0), picture(1), steps=1, frames=frames)
    assert len(clip.frames) == frames


def test_progress_is_told_stage_by_stage(model_of: Callable[[str], Path], spy: Spy) -> None:
    told: list[tuple[str, int, int]] = []
    Pipeline(model_of(ANIMATE)).animate(picture(), steps=3, on_progress=lambda *step: told.append(step))
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["text", "image", "encode", "denoise", "decode"]
    assert [step for step in told if step[0] == "denoise"] == [("denoise", done, 3) for done in range(4)]
    assert told[-1] == ("decode", FRAMES, FRAMES)
    for stage in stages:
        assert [(done, total) for name, done, total in told if name == stage][-1] in {(1, 1), (3, 3), (FRAMES, FRAMES)}


@pytest.mark.slow
def test_an_interrupted_run_leaves_the_pipeline_as_it_was(model_of: Callable[[str], Path]) -> None:
    pipeline = Pipeline(model_of(ANIMATE), keep_loaded=False)

    def interrupt(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("denoise", 1):
            raise KeyboardInterrupt

    before = pipeline.animate(picture(), steps=2).frames
    with pytest.raises(KeyboardInterrupt):
        pipeline.animate(picture(), steps=2, on_progress=interrupt)
    assert torch.equal(pipeline.animate(picture(), steps=2).frames, before)


def test_a_clip_tells_what_it_cost(model_of: Callable[[str], Path], spy: Spy) -> None:
    clip = Pipeline(model_of(ANIMATE)).animate(picture(), steps=1)
    assert set(clip.seconds) == {"text", "image", "encode", "denoise", "decode"}
    assert all(seconds > 0 for seconds in clip.seconds.values())
    assert 10e6 < clip.peak_memory < 1e12


def test_a_saved_clip_tells_how_it_was_made(model_of: Callable[[str], Path], spy: Spy, tmp_path: Path) -> None:
    clip = Pipeline(model_of(ANIMATE)).animate(picture(), "a cat", seed=5, steps=1, negative="dark")
    clip.save(tmp_path / "clip.mp4")
    settings = read_settings(tmp_path / "clip.mp4")
    assert settings == clip.settings
    told = {
        name: settings[name] for name in ("prompt", "negative", "seed", "steps", "text_scale", "fs", "variant", "model")
    }
    assert told == {
        "prompt": "a cat",
        "negative": "dark",
        "seed": 5,
        "steps": 1,
        "text_scale": 7.5,
        "fs": 24,
        "variant": ANIMATE,
        "model": f"{ANIMATE}.safetensors",
    }


@pytest.mark.slow
def test_a_call_does_what_its_arguments_ask_for(model_of: Callable[[str], Path], spy: Spy) -> None:
    assert Pipeline(model_of(ANIMATE))(picture(), "a cat", steps=1).settings["mode"] == "animate"
    assert Pipeline(model_of("videocrafter2_t2v_512"))(prompt="a cat", steps=1).settings["mode"] == "generate"
    pipeline = Pipeline(model_of(INTERPOLATE))
    assert pipeline(picture(), last=picture(1), steps=1).settings["mode"] == "interpolate"
    assert pipeline(picture(), steps=1).settings["mode"] == "loop"


def test_an_autoencoder_that_gives_nan_is_told_of_and_shows_no_black_frames(model_of, tmp_path: Path) -> None:
    with safe_open(model_of(ANIMATE), framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
        metadata = file.metadata()
    state["first_stage_model.decoder.conv_out.bias"] = torch.full((3,), torch.nan)
    save_file(state, tmp_path / "nan.safetensors", metadata)
    with pytest.raises(
        InputError, match="The autoencoder gave NaN in float32; use bf16 or fp32, or get its file again"
    ):
        Pipeline(tmp_path / "nan.safetensors").animate(picture(), steps=1)
