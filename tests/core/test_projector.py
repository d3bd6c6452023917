"""The query transformer gives what the original code gave, per frame and for the whole clip."""

import pytest
import torch
from golden import assert_golden, fill, golden, golden_input, manifest

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.projector import Projector, ProjectorConfig

GOLDEN = golden("dynamicrafter_golden")


@pytest.mark.parametrize(("flavour", "frames"), [("resampler_frames", 4), ("resampler_single", 1)])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_projector_is_exact(flavour, frames, dtype, rtol):
    config = ProjectorConfig.from_reference(GOLDEN[flavour]["config"])
    projector = fill(Projector(config)).to(dtype)
    with torch.inference_mode():
        out = projector(golden_input("img_tokens", [2, 11, 40]).to(dtype))
    assert out.shape == (2, frames, 5, 48)
    assert_golden(out.flatten(1, 2), GOLDEN[flavour]["out"], rtol)


@pytest.mark.parametrize("flavour", ["resampler_frames", "resampler_single"])
def test_keys_and_shapes_are_the_originals_and_tell_the_config(flavour):
    config = ProjectorConfig.from_reference(GOLDEN[flavour]["config"])
    shapes = {key: tuple(value.shape) for key, value in Projector(config, device="meta").state_dict().items()}
    assert shapes == {key: tuple(shape) for key, shape in GOLDEN[flavour]["state_keys"].items()}
    assert ProjectorConfig.from_shapes(shapes, head_channels=16, queries=5) == config


@pytest.mark.parametrize(("variant", "frames"), [("dynamicrafter_512", 16), ("videocrafter1_i2v_512", None)])
def test_released_shapes_tell_the_released_config(variant, frames):
    prefix = "image_proj_model."
    shapes = {key.removeprefix(prefix): shape for key, shape in manifest(variant).items() if key.startswith(prefix)}
    assert ProjectorConfig.from_shapes(shapes) == ProjectorConfig(frames=frames)


def test_misfits_are_told_in_a_sentence():
    with pytest.raises(InputError, match="another CLIP vision model"):
        Projector(ProjectorConfig(), device="meta")(torch.zeros(1, 257, 1024, device="meta"))
    with pytest.raises(InputError, match="not an image projector"):
        ProjectorConfig.from_shapes({"latents": (1, 16, 8)})
