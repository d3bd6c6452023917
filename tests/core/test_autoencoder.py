"""The autoencoder gives what the original code gave, whole or in portions, in any memory layout."""

import pytest
import torch
from golden import assert_golden, fill, golden, golden_input, manifest

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.autoencoder import Autoencoder, AutoencoderConfig
from dynamicrafter_core.models.chunks import OutOfMemory, in_chunks

GOLDEN = golden("dynamicrafter_golden")["vae"]
CONFIG = AutoencoderConfig.from_reference(GOLDEN["ddconfig"])
SMALL = AutoencoderConfig(channels=16, channel_mult=(1, 2), res_blocks=1, norm_groups=8, z_channels=3, embed_dim=5)
VARIANTS = ["dynamicrafter_256", "dynamicrafter_512", "dynamicrafter_512_interp", "dynamicrafter_1024"]
VARIANTS += ["videocrafter1_t2v_512", "videocrafter1_t2v_1024", "videocrafter1_i2v_512", "videocrafter2_t2v_512"]


def shapes_of(module):
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def autoencoder():
    return fill(Autoencoder(CONFIG))


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return Autoencoder(SMALL).eval()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_encoding_and_decoding_are_exact(dtype, rtol):
    model = fill(Autoencoder(CONFIG)).to(dtype)
    with torch.inference_mode():
        mean, logvar = model.encode(golden_input("image", [2, 3, 64, 48]).to(dtype))
        pixels = model.decode(golden_input("z", [2, 4, 8, 6]).to(dtype))
    assert_golden(mean, GOLDEN['encode mean of input("image",[2,3,64,48])'], rtol)
    assert_golden(logvar, GOLDEN["logvar (clamped)"], rtol)
    assert_golden(pixels, GOLDEN['decode input("z",[2,4,8,6])'], rtol)


@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("data", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_changes_no_number(weights, data):
    model = fill(Autoencoder(CONFIG)).to(memory_format=weights)
    with torch.inference_mode():
        mean, _ = model.encode(golden_input("image", [2, 3, 64, 48]).contiguous(memory_format=data))
        pixels = model.decode(golden_input("z", [2, 4, 8, 6]).contiguous(memory_format=data))
    assert_golden(mean, GOLDEN['encode mean of input("image",[2,3,64,48])'])
    assert_golden(pixels, GOLDEN['decode input("z",[2,4,8,6])'])


@pytest.mark.parametrize("variant", VARIANTS)
def test_released_shapes_tell_the_config_and_are_met(variant):
    prefix = "first_stage_model."
    shapes = {key.removeprefix(prefix): shape for key, shape in manifest(variant).items() if key.startswith(prefix)}
    config = AutoencoderConfig.from_shapes(shapes)
    assert config == AutoencoderConfig()
    assert shapes_of(Autoencoder(config, device="meta")) == shapes


def test_a_smaller_model_is_told_by_its_shapes(small):
    assert AutoencoderConfig.from_shapes(shapes_of(small), norm_groups=8) == SMALL
    assert SMALL.size_factor == 2
    with torch.inference_mode():
        mean, logvar = small.encode(torch.zeros(1, 3, 10, 6))
        assert mean.shape == logvar.shape == (1, 5, 5, 3)
        assert small.decode(mean).shape == (1, 3, 10, 6)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 99])
def test_portions_give_what_the_whole_gives(small, chunk):
    torch.manual_seed(1)
    pixels, z = torch.randn(5, 3, 8, 12), torch.randn(5, 5, 4, 6)
    with torch.inference_mode():
        for whole, part in zip(small.encode(pixels), small.encode(pixels, chunk=chunk), strict=True):
            torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(small.decode(z, chunk=chunk), small.decode(z), rtol=1e-4, atol=1e-5)


def test_portions_are_of_the_size_asked_for():
    seen = []

    def run(frames):
        seen.append(len(frames))
        return 2 * frames, frames + 1

    doubled, raised = in_chunks(run, torch.arange(7.0), 3)
    assert seen == [3, 3, 1]
    assert doubled.tolist() == (2 * torch.arange(7.0)).tolist()
    assert raised.tolist() == (torch.arange(7.0) + 1).tolist()


@pytest.mark.parametrize("error", [OutOfMemory("CUDA out of memory."), RuntimeError("MPS backend out of memory")])
def test_what_does_not_fit_is_tried_in_halves(error):
    seen = []

    def run(frames):
        seen.append(len(frames))
        if len(frames) > 2:
            raise error
        return frames * 10

    assert in_chunks(run, torch.arange(5)).tolist() == [0, 10, 20, 30, 40]
    assert seen == [5, 3, 2, 2, 1]


def test_a_single_frame_that_does_not_fit_is_an_error():
    def run(frames):
        raise OutOfMemory("CUDA out of memory.")

    with pytest.raises(OutOfMemory):
        in_chunks(run, torch.arange(4))


def test_other_errors_are_not_retried():
    seen = []

    def run(frames):
        seen.append(len(frames))
        raise RuntimeError("illegal access")

    with pytest.raises(RuntimeError, match="illegal access"):
        in_chunks(run, torch.arange(4))
    assert seen == [4]


def test_the_model_can_be_trained(small):
    pixels = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    mean, logvar = small.encode(pixels)
    (small.decode(mean) - pixels).square().mean().add(logvar.mean()).backward()
    gradients = [parameter.grad for parameter in small.parameters()]
    small.zero_grad()
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_misfits_are_told_in_a_sentence(small):
    with pytest.raises(InputError, match="9x4 is not divisible by 2"):
        small.encode(torch.zeros(1, 3, 4, 9))
    with pytest.raises(InputError, match=r"encodes \[frames, 3, height, width\], not \[3, 8, 8\]"):
        small.encode(torch.zeros(3, 8, 8))
    with pytest.raises(InputError, match=r"decodes \[frames, 5, height, width\], not \[1, 4, 8, 8\]"):
        small.decode(torch.zeros(1, 4, 8, 8))
    with pytest.raises(InputError, match="48 channels does not divide into 32 norm groups"):
        AutoencoderConfig(channels=48)
    with pytest.raises(InputError, match="not an autoencoder: 'encoder.conv_in.weight' is missing"):
        AutoencoderConfig.from_shapes({"conv.weight": (1,)})
    with pytest.raises(InputError, match="not of this family"):
        AutoencoderConfig.from_reference({**GOLDEN["ddconfig"], "attn_resolutions": [32]})
