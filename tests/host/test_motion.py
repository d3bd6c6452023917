"""Weights inside the UNet, set on a MODEL: the same numbers as the core's, alone and beside the host's own patches."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

AS_TRAINED: dict[str, Any] = {"ends": 1.0, "middle": 1.0, "start": 0.0, "end": 1.0, "strength": "1", "temperature": "1"}
AS_TRAINED |= {"first_frame": 0.0, "manner": "beside"}
CHANGES = (
    {"ends": 0.2},
    {"middle": 3.0},
    {"strength": "0.5, 1.5"},
    {"temperature": "0.3"},
    {"first_frame": 1.0},
    {"first_frame": 0.5, "manner": "in-place"},
    {"causal": True},
)


@pytest.fixture
def motion(run: Callable) -> Callable[..., Any]:
    return lambda model, **given: run("DynamiCrafterMotion", model=model, **{**AS_TRAINED, **given})[0]


def test_as_trained_nothing_changes(load, scene, sample, motion) -> None:
    made = scene(load())
    assert torch.equal(sample(made, model=motion(made.model)), sample(made))


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_weight_changes_the_clip_and_leaves_the_given_model_alone(load, scene, sample, motion, change) -> None:
    made = scene(load())
    before = sample(made, steps=2)
    changed = sample(made, model=motion(made.model, **change), steps=2)
    assert changed.isfinite().all() and (changed - before).abs().mean() > 1e-3 * before.abs().mean()
    assert torch.equal(sample(made, steps=2), before)


def test_lambda_of_both_parts_is_the_image_contexts_strength(load, scene, sample, motion) -> None:
    loaded = load()
    by_part = sample(scene(loaded), model=motion(loaded.model, ends=2.0, middle=2.0), steps=2)
    torch.testing.assert_close(by_part, sample(scene(loaded, strength=2.0), steps=2), rtol=1e-3, atol=1e-3)


def test_lambda_counts_in_its_share_of_the_run(load, scene, sample, motion) -> None:
    made = scene(load())
    never = sample(made, model=motion(made.model, middle=3.0, start=0.99, end=1.0), steps=2)
    assert torch.equal(never, sample(made, model=motion(made.model, strength="1"), steps=2))


def test_two_nodes_add_up(load, scene, sample, motion) -> None:
    made = scene(load())
    twice = motion(motion(made.model, middle=2.0), middle=1.5)
    torch.testing.assert_close(
        sample(made, model=twice, steps=2),
        sample(made, model=motion(made.model, middle=3.0), steps=2),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_the_hosts_model_gives_the_cores_numbers(load, ours, change) -> None:
    """One forward of the host's UNet against the core's, in the same weights."""
    unet = load().model.model.diffusion_model
    motions = ours("dynamicrafter_core.models.motion")
    over = {name: motions.read_curve(change[name]) for name in ("strength", "temperature") if name in change}
    record = motions.Motion(**{**change, **over})
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 8, 8, 8, generator=generator)
    text, image = torch.randn(1, 7, 64, generator=generator), torch.randn(1, 4, 5, 64, generator=generator)
    timesteps = torch.full((4,), 500.0)
    with torch.inference_mode():
        rows = {"dynamicrafter_frames": 4, "dynamicrafter_image": image[0], "dynamicrafter_fs": torch.full((4,), 10)}
        ours_out = unet(x, timesteps, text.expand(4, -1, -1), None, {"dynamicrafter_motion": (record,)}, **rows)
        core = ours("dynamicrafter_core.models.unet").VideoUNet
        hooks = record.hooks(unet.places, 0.5)
        volume = x.transpose(0, 1)[None]
        theirs = core.forward(unet, volume, timesteps[:1], text, image, torch.tensor([10]), hooks=hooks)
    torch.testing.assert_close(ours_out, theirs[0].transpose(0, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("other", ["HyperTile", "FreeU_V2", "PerturbedAttentionGuidance", "TomePatchModel"])
def test_it_works_beside_the_hosts_patches(extras, run, load, scene, image, sample, motion, other) -> None:
    extras(
        {"HyperTile": "nodes_hypertile", "FreeU_V2": "nodes_freelunch", "TomePatchModel": "nodes_tomesd"}.get(
            other, "nodes_pag"
        )
    )
    made = scene(load(), images=image(128, 192), width=192, height=128, frames=3)
    given: dict[str, Any] = {
        "HyperTile": {"tile_size": 32, "swap_size": 2, "max_depth": 1, "scale_depth": False},
        "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
        "PerturbedAttentionGuidance": {"scale": 3.0},
        "TomePatchModel": {"ratio": 0.5},
    }[other]
    (patched,) = run(other, model=made.model, **given)
    both = motion(patched, middle=2.0, strength="1.5", first_frame=0.5)
    out = sample(made, model=both, steps=2)
    assert out.isfinite().all()
    assert not torch.equal(out, sample(made, model=patched, steps=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": "fast"}, "motion strength is 'fast'; give a number, or several"),
        ({"temperature": ""}, "motion temperature is ''"),
        ({"strength": "99"}, "motion strength is 99.0"),
        ({"start": 0.6, "end": 0.5}, "the end must come later"),
    ],
)
def test_bad_weights_are_refused(load, motion, change, message) -> None:
    with pytest.raises(Exception, match=message):
        motion(load().model, **change)


def test_a_model_that_sees_no_image_is_not_weighed(load, motion) -> None:
    model = load("videocrafter2_t2v_512").model
    with pytest.raises(Exception, match="sees no image to weight"):
        motion(model, middle=2.0)
    assert motion(model, strength="1.5") is not model
