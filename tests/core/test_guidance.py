"""Guidance: the two scales, the rescale, and which branches need a pass at all."""

import itertools
import math

import pytest
import torch
from golden import assert_golden, golden, golden_input

from dynamicrafter_core.diffusion.guidance import Guidance, guide, guided
from dynamicrafter_core.errors import InputError

SHAPE = [2, 4, 3, 4, 4]
COND, UNCOND, IMAGE_ONLY = (golden_input(name, SHAPE) for name in ("cond", "uncond", "image_only"))
BRANCHES = {"cond": COND, "uncond": UNCOND, "image_only": IMAGE_ONLY}


def test_rescale_is_the_originals():
    # The golden value rescales 3 a by 0.7 towards b's spread: here 3 a = u + 2 (b - u).
    record = golden("dynamicrafter_golden")["rescale_noise_cfg"]
    a, b = golden_input("a", record["shape"]), golden_input("b", record["shape"])
    assert_golden(guide(b, 2 * b - 3 * a, None, 2.0, None, 0.7), record)


def test_guidance_is_a_weighted_sum_of_the_three_branches():
    out = guide(COND, UNCOND, IMAGE_ONLY, 7.5, 4.0, 0.0)
    torch.testing.assert_close(out, 7.5 * COND - 3.5 * IMAGE_ONLY - 3 * UNCOND)


def test_without_the_image_branch_guidance_is_single():
    for image_scale in (7.5, 2.0, None):
        torch.testing.assert_close(guide(COND, UNCOND, None, 7.5, image_scale, 0.0), 7.5 * COND - 6.5 * UNCOND)


def test_equal_scales_are_single_guidance():
    torch.testing.assert_close(
        guide(COND, UNCOND, IMAGE_ONLY, 7.5, 7.5, 0.7), guide(COND, UNCOND, None, 7.5, None, 0.7)
    )


def test_without_the_unconditional_branch_the_conditional_one_is_the_output():
    for rescale in (0.0, 0.7):
        assert torch.equal(guide(COND, None, None, 7.5, 7.5, rescale), COND)


def test_full_rescale_has_the_spread_of_the_conditional_output_in_every_clip():
    out = guide(COND, UNCOND, IMAGE_ONLY, 7.5, 4.0, 1.0)
    for clip, cond in zip(out, COND, strict=True):
        assert clip.std().item() == pytest.approx(cond.std().item(), rel=1e-5)
    plain = guide(COND, UNCOND, IMAGE_ONLY, 7.5, 4.0, 0.0)
    torch.testing.assert_close(guide(COND, UNCOND, IMAGE_ONLY, 7.5, 4.0, 0.3), 0.3 * out + 0.7 * plain)


def test_a_flat_output_survives_the_rescale():
    flat = torch.full((1, 4, 2, 2, 2), 0.5)
    assert torch.equal(guide(flat, flat, flat, 7.5, 4.0, 0.7), flat)


def test_half_precision_outputs_are_guided_in_single():
    half = [branch.bfloat16() for branch in (COND, UNCOND, IMAGE_ONLY)]
    out = guide(*half, 7.5, 4.0, 0.7)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, guide(*(branch.float() for branch in half), 7.5, 4.0, 0.7))


@pytest.mark.parametrize(
    ("scales", "needed"),
    [
        ((7.5, 4.0), ("cond", "uncond", "image_only")),
        ((7.5, None), ("cond", "uncond")),
        ((7.5, 7.5), ("cond", "uncond")),
        ((7.5, 1.0), ("cond", "image_only")),
        ((0.0, 4.0), ("uncond", "image_only")),
        ((0.0, 4.0, 0.7), ("cond", "uncond", "image_only")),
        ((1.0, 4.0), ("cond", "uncond", "image_only")),
        ((1.0, 1.0, 0.7), ("cond",)),
        ((1.0, None), ("cond",)),
        ((0.0, 1.0), ("image_only",)),
        ((0.0, 0.0), ("uncond",)),
    ],
)
def test_only_branches_with_a_say_are_needed(scales, needed):
    assert Guidance(*scales).branches == needed


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_leaving_out_what_vanishes_changes_nothing(rescale):
    for text, image in itertools.product((0.0, 1.0, 4.0, 7.5), repeat=2):
        guidance = Guidance(text, image, rescale)
        few = guidance.combine(**{name: BRANCHES[name] for name in guidance.branches})
        torch.testing.assert_close(few, guide(COND, UNCOND, IMAGE_ONLY, text, image, rescale), rtol=1e-5, atol=1e-5)


def test_the_guided_network_runs_only_the_needed_branches():
    asked = []

    def run(x, t, branches):
        asked.append((t.tolist(), branches))
        return [x + BRANCHES[name] for name in branches]

    x, t = golden_input("x", SHAPE), torch.tensor([5, 5])
    out = guided(run, Guidance(7.5, 1.0))(x, t)
    torch.testing.assert_close(out, x + 7.5 * COND - 6.5 * IMAGE_ONLY)
    assert asked == [([5, 5], ("cond", "image_only"))]


@pytest.mark.parametrize("value", [math.nan, math.inf, "7.5", True])
def test_impossible_scales_are_refused_with_the_value(value):
    for scales in ((value, 4.0, 0.0), (7.5, value, 0.0)):
        with pytest.raises(InputError, match="scale is .*; give a finite number") as refusal:
            guide(COND, UNCOND, IMAGE_ONLY, *scales)
        assert repr(value) in str(refusal.value)


@pytest.mark.parametrize("value", [math.nan, -0.1, 1.5, None])
def test_impossible_rescales_are_refused(value):
    with pytest.raises(InputError, match="guidance rescale is .*from 0 to 1"):
        guide(COND, UNCOND, None, 7.5, None, value)
