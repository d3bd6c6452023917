"""Pictures reach CLIP as the original code prepared them, at every size and in every shape."""

import pytest
import torch
from golden import assert_golden, golden

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.preprocess import MEAN, STD, preprocess_for_clip

GOLDEN = golden("dynamicrafter_golden")["clip_preprocess"]


def picture(height, width):
    """The golden file's analytic image."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    channels = (0.031 * x + 0.017 * y).sin(), (0.05 * x - 0.02 * y).cos(), (0.9 * x).sin() * (0.7 * y).cos()
    return torch.stack(channels)[None]


@pytest.mark.parametrize("size", ["320x512", "576x1024", "256x256", "128x200", "224x224"])
def test_preprocessing_is_exact(size):
    assert_golden(preprocess_for_clip(picture(*map(int, size.split("x")))), GOLDEN[size])


def test_unconditional_image_is_mid_grey():
    grey = preprocess_for_clip(torch.zeros(1, 3, 320, 512))
    assert_golden(grey, GOLDEN["zeros_320x512"])
    expected = (0.5 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(grey, expected[None, :, None, None].expand(1, 3, 224, 224))


def test_the_whole_picture_is_seen():
    left, right = picture(60, 200), picture(60, 200)
    right[..., -10:] += 0.5
    difference = (preprocess_for_clip(right) - preprocess_for_clip(left)).abs().amax((0, 1, 2))
    assert difference[:200].max() < 1e-5 < difference[-1]


@pytest.mark.parametrize("size", [32, 224])
def test_small_towers_get_their_size(size):
    pixels = picture(50, 80).repeat(2, 1, 1, 1)
    assert preprocess_for_clip(pixels, size).shape == (2, 3, size, size)


def test_low_precision_is_computed_in_full_precision():
    low = picture(128, 200).bfloat16()
    prepared = preprocess_for_clip(low)
    assert prepared.dtype == torch.bfloat16
    assert torch.equal(prepared, preprocess_for_clip(low.float()).bfloat16())


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"takes \[batch, 3, height, width\], not \[3, 64, 64\]"):
        preprocess_for_clip(torch.zeros(3, 64, 64))
