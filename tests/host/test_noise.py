"""NOISE of this pack: frames that share it, a camera path through it, and FreeInit's second beginning."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

DEFAULTS: dict[str, Any] = {"kind": "residual", "alpha": 1.0, "share": 1.0, "pan_x": 0.0, "pan_y": 0.0, "zoom": 1.0}
DEFAULTS |= {"turn": 0.0, "start": 0.0, "end": 1.0, "easing": "linear", "frames": 0}


@pytest.fixture
def noise(run: Callable) -> Callable[..., Any]:
    return lambda seed=1, **given: run("DynamiCrafterNoise", seed=seed, **{**DEFAULTS, **given})[0]


def test_plain_noise_is_the_samplers_own(load, scene, sample, noise) -> None:
    made = scene(load())
    assert torch.equal(sample(made, seed=1, noise=noise(seed=1, kind="plain")), sample(made, seed=1))


def test_plain_noise_is_the_hosts_random_noise(extras, run, noise) -> None:
    extras("nodes_custom_sampler")
    (theirs,) = run("RandomNoise", noise_seed=7)
    latent = {"samples": torch.zeros(4, 4, 8, 8)}
    assert torch.equal(noise(seed=7, kind="plain").generate_noise(latent), theirs.generate_noise(latent))


def test_camera_moves_the_frames_of_each_clip(noise) -> None:
    latent = {"samples": torch.zeros(8, 4, 8, 8)}
    first, second = noise(frames=4, pan_x=0.25).generate_noise(latent).split(4)
    for clip in (first, second):
        torch.testing.assert_close(clip[-1, :, :, :-2], clip[0, :, :, 2:])
    assert not torch.isclose(first, second).any(), "each clip has noise of its own"
    with pytest.raises(Exception, match="do not divide into clips of the 3"):
        noise(frames=3).generate_noise(latent)


@pytest.mark.parametrize("variant", ["dynamicrafter_512", "t2v_turbo_vc2"])
def test_shared_noise_reaches_the_network(variant, load, scene, sample, noise) -> None:
    made = scene(load(variant))
    seen = []

    def spy(apply: Any, given: dict) -> torch.Tensor:
        seen.append(given["input"])
        return torch.zeros_like(given["input"])

    model = made.model.clone()
    model.set_model_unet_function_wrapper(spy)
    sample(made, model=model, noise=noise(), steps=3, eta=1.0)
    assert len(seen) == 3
    for rows in seen:  # what the run begins with, and the fresh noise of each step
        frames = rows[: len(made.latent["samples"])]
        torch.testing.assert_close(frames, frames[:1].expand_as(frames))
    assert not torch.isclose(seen[0] / seen[0].std(), seen[2] / seen[2].std()).all(), "there was fresh noise"


def test_plain_noise_with_a_camera_path_is_refused(noise) -> None:
    with pytest.raises(Exception, match="choose residual, mixed or progressive noise"):
        noise(kind="plain", zoom=2.0)


def test_freeinit_is_refused_for_a_distilled_model(load, run, noise) -> None:
    asked = {"model": load("t2v_turbo_vc2").model, "clip": {"samples": torch.zeros(4, 4, 8, 8)}, "noise": noise()}
    with pytest.raises(ValueError, match="is distilled.*remove DynamiCrafterFreeInit"):
        run("DynamiCrafterFreeInit", seed=2, cutoff=0.25, start_step=0, **asked)


def test_freeinit_keeps_the_mean_of_a_clip_and_renews_the_rest(load, scene, run, sample, noise) -> None:
    made = scene(load())
    begun = noise(kind="plain")
    clip = sample(made, noise=begun, start_step=940)
    asked = {"model": made.model, "clip": {"samples": clip}, "noise": begun, "seed": 2, "cutoff": 0.25}
    (again,) = run("DynamiCrafterFreeInit", start_step=940, **asked)
    x = again.generate_noise(made.latent)

    schedule = made.model.model.family.schedule()
    ac, scale = schedule.alphas_cumprod[939].item(), schedule.scale[939].item()
    first = begun.generate_noise(made.latent)
    mean = (0, 2, 3)
    wanted = ac**0.5 * scale * 0.18215 * clip.mean(mean) + (1 - ac) ** 0.5 * first.mean(mean)
    torch.testing.assert_close(x.mean(mean), wanted, rtol=1e-4, atol=1e-5)
    assert abs(torch.corrcoef(torch.stack([x.flatten(), first.flatten()]))[0, 1]) < 0.4
    second = sample(made, noise=again, start_step=940)
    assert second.isfinite().all() and not torch.equal(second, clip)


def test_freeinit_where_the_model_sees_noise_alone_is_refused(load, scene, run, noise) -> None:
    made = scene(load())
    asked = {"model": made.model, "clip": made.latent, "noise": noise(), "seed": 2, "cutoff": 0.25}
    with pytest.raises(Exception, match="give a start step below 1000"):
        run("DynamiCrafterFreeInit", start_step=0, **asked)


def test_freeinit_of_a_clip_of_another_size_is_refused(load, scene, run, noise) -> None:
    made = scene(load())
    asked = {"model": made.model, "clip": made.latent, "noise": noise(), "seed": 2, "cutoff": 0.25}
    (again,) = run("DynamiCrafterFreeInit", start_step=940, **asked)
    with pytest.raises(Exception, match="give both samplers the same LATENT"):
        again.generate_noise({"samples": torch.zeros(4, 4, 8, 16)})
