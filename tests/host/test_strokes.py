"""Strokes and a brush in the host: any sampler is led, what is not brushed stands still, and nothing drawn changes nothing."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

NOTHING: dict[str, Any] = {
    "strokes": "",
    "radius": 0.0,
    "until": 0.6,
    "easing": "linear",
    "noise_share": 0.3,
    "seed": 1,
}
NOTHING |= {"fit": "crop"}
STROKE = "16,32 -> 48,32"


@pytest.fixture
def draw(run: Callable, image: Callable) -> Callable[..., SimpleNamespace]:
    def through_the_node(made: SimpleNamespace, **given: Any) -> SimpleNamespace:
        asked = {"model": made.model, "positive": made.positive, "negative": made.negative, "latent": made.latent}
        asked |= {"vae": made.vae, "image": image(), **NOTHING, **given}
        names = ("model", "positive", "negative", "latent", "noise")
        led = dict(zip(names, run("DynamiCrafterStrokes", **asked), strict=True))
        return SimpleNamespace(vae=made.vae, **led)

    return through_the_node


def square(left: int, top: int = 24, side: int = 16) -> torch.Tensor:
    mask = torch.zeros(1, 64, 64)
    mask[:, top : top + side, left : left + side] = 1
    return mask


def test_nothing_drawn_changes_nothing(load, scene, sample, draw) -> None:
    made = scene(load())
    drawn = draw(made)
    assert drawn.model is made.model and drawn.positive is made.positive and drawn.latent is made.latent
    assert torch.equal(sample(drawn, noise=drawn.noise), sample(made))


@pytest.mark.parametrize("node", ["DynamiCrafterSampler", "KSampler"])
def test_any_sampler_is_led_and_the_given_model_is_left_alone(load, scene, sample, draw, node) -> None:
    made = scene(load())
    before = sample(made, node)
    led = sample(draw(made, strokes=STROKE), node)
    assert led.isfinite().all() and not torch.isclose(led, before).all()
    assert torch.equal(sample(made, node), before)


def test_led_frames_are_the_latent_and_the_detail(load, scene, draw) -> None:
    made = scene(load())
    drawn = draw(made, strokes=STROKE, brush=square(8))
    samples = drawn.latent["samples"]
    (detail,) = drawn.positive[0][1]["dynamicrafter_concat"]
    assert torch.equal(detail[1:], samples[1:]) and torch.equal(
        detail[0], made.positive[0][1]["dynamicrafter_concat"][0, 0]
    )
    assert torch.equal(drawn.negative[0][1]["dynamicrafter_concat"], drawn.positive[0][1]["dynamicrafter_concat"])
    assert not torch.equal(samples[-1], samples[0])
    mask = drawn.latent["noise_mask"]
    assert mask.shape == (4, 1, 8, 8) and mask[0, 0, 4, 1] == 1 and mask[0, 0, 0, 0] == 0
    assert made.latent["samples"].abs().max() == 0 and "noise_mask" not in made.latent


def test_the_mask_on_the_model_ends_at_its_share_of_the_run(load, scene, draw) -> None:
    made = scene(load())
    drawn = draw(made, strokes=STROKE, radius=16.0, until=0.5)
    mask = drawn.model.model_options["denoise_mask_function"]
    sampling, ones = made.model.model.model_sampling, torch.ones(4, 4, 8, 8)
    around = {"model": SimpleNamespace(inner_model=made.model.model), "sigmas": None}
    early, late = (mask(sampling.sigmas[t][None].expand(4), ones, extra_options=around) for t in (800, 300))
    assert torch.equal(late, ones) and early[0, 0, 4, 2] == 0 and early[-1, 0, 4, 6] == 0 and early[0, 0, 0, 0] == 1


def test_what_is_not_brushed_stands_still(load, scene, sample, draw) -> None:
    made = scene(load())
    for given in ({"brush": square(0, 0, 32)}, {"brush": square(0, 16, 16), "strokes": "8,24 -> 20,24"}):
        out = sample(draw(made, **given), steps=2)
        still = out[:, :, 6:, 6:]
        torch.testing.assert_close(still, still[:1].expand_as(still))
        assert not torch.isclose(out[0, :, 2, 1], out[-1, :, 2, 1]).all()


def test_masks_and_flows_lead_as_a_stroke_does(load, scene, draw) -> None:
    made = scene(load())
    flow = torch.zeros(1, 64, 64, 2)
    flow[..., 0] = 32
    ways = ({"strokes": STROKE}, {"brush_to": square(40)}, {"flow": flow}, {"flow": flow.movedim(-1, 1)})
    first, *others = (draw(made, brush=square(8), **way).latent["samples"] for way in ways)
    for other in others:
        torch.testing.assert_close(other, first, atol=1e-2, rtol=1e-2)


def test_a_camera_leads_the_whole_picture(load, scene, sample, draw, image, ours) -> None:
    made = scene(load())
    led = draw(made, camera="pan 0.5 0")
    samples = led.latent["samples"]
    (detail,) = led.positive[0][1]["dynamicrafter_concat"]
    assert torch.equal(detail[1:], samples[1:]) and (led.latent["noise_mask"] == 1).all()
    path = ours("dynamicrafter_core.diffusion.noise_path").NoisePath(pan_x=0.5)
    picture = image()[0].movedim(-1, 0) * 2 - 1
    views, _ = ours("dynamicrafter_core.strokes.animation").animate_view(picture, path, 4)
    with torch.inference_mode():
        encoded = made.vae.encode(((views + 1) / 2).movedim(1, -1))
    torch.testing.assert_close(samples, encoded, atol=1e-4, rtol=1e-4)
    mask = led.model.model_options["denoise_mask_function"]
    around = {"model": SimpleNamespace(inner_model=made.model.model), "sigmas": None}
    early = mask(made.model.model.model_sampling.sigmas[800][None].expand(4), torch.ones(4, 1, 8, 8), around)
    assert (early[0] == 0).all() and (early[-1, ..., :4] == 0).all() and (early[-1, ..., 4:] == 1).all()
    noise = draw(made, camera="pan 0.5 0", noise_share=1.0).noise.generate_noise(made.latent)
    torch.testing.assert_close(noise[-1, ..., :4], noise[0, ..., 4:], atol=1e-4, rtol=0)
    for node in ("DynamiCrafterSampler", "KSampler"):
        assert not torch.isclose(sample(led, node), sample(made, node)).all()
    still = draw(made, camera="zoom 1")
    assert still.model is made.model and still.latent is made.latent


def test_noise_moves_along(load, scene, draw, noise_of) -> None:
    made = scene(load())
    noise = draw(made, strokes=STROKE, brush=square(8), noise_share=1.0).noise.generate_noise(made.latent)
    torch.testing.assert_close(noise[-1, :, 3:5, 5:7], noise[0, :, 3:5, 1:3], atol=1e-4, rtol=0)
    plain = noise_of(made)[0].transpose(0, 1)
    assert torch.equal(noise[0], plain[0]) and torch.equal(noise[-1, :, 0], plain[-1, :, 0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strokes": "900,1 -> 2,3"}, "starts outside the picture, which is 64x64 pixels"),
        ({"strokes": "1,2 -> 3,4; radius 9"}, "set radius, until, noise share, easing and camera in their own inputs"),
        ({"strokes": "camera zoom 2"}, "set radius, until, noise share, easing and camera in their own inputs"),
        ({"strokes": STROKE, "camera": "zoom 2"}, "strokes and a camera both say where things go"),
        ({"camera": "dolly 2"}, "the camera path holds 'dolly 2'"),
        ({"strokes": STROKE, "flow": torch.zeros(1, 8, 8, 2)}, "both say where things go"),
        ({"brush_to": torch.ones(1, 64, 64)}, "brush is missing"),
        ({"strokes": STROKE, "flow": None, "brush": torch.ones(2, 64, 64)}, "brush holds 2 masks: give one"),
        ({"flow": "text"}, "flow is a str; give numbers"),
    ],
)
def test_bad_drawings_are_refused(load, scene, draw, given, message) -> None:
    with pytest.raises(Exception, match=message):
        draw(scene(load()), **given)


def test_what_cannot_be_led_is_refused(load, scene, image, draw, run, extras) -> None:
    with pytest.raises(Exception, match="the latent holds 2 clips"):
        draw(scene(load(), images=image(count=2)), strokes=STROKE)
    with pytest.raises(Exception, match="has a mask already"):
        draw(scene(load(), lock="latent"), strokes=STROKE)
    with pytest.raises(Exception, match="set DynamiCrafter Visual Guidance to animate"):
        draw(scene(load("dynamicrafter_512_interp"), mode="loop"), strokes=STROKE)
    with pytest.raises(Exception, match="is distilled and starts from noise alone"):
        draw(scene(load("t2v_turbo_vc2")), strokes=STROKE)
    made = scene(load())
    extras("nodes_differential_diffusion")
    (patched,) = run("DifferentialDiffusion", model=made.model)
    with pytest.raises(Exception, match="masks the run, and so does DynamiCrafterStrokes"):
        draw(SimpleNamespace(**{**vars(made), "model": patched}), strokes=STROKE)
