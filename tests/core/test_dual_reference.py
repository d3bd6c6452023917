"""ToonCrafter's decoder gives what the original code gave, with its reference frames and without them."""

import pytest
import torch
from golden import assert_golden, fill, golden, golden_input, manifest

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.autoencoder import AutoencoderConfig
from dynamicrafter_core.models.dual_reference import DualReferenceAutoencoder

pytestmark = pytest.mark.slow

GOLDEN = golden("tooncrafter_vae_golden")
CONFIG = AutoencoderConfig.from_reference(GOLDEN["ddconfig"], dual_reference=True)
FRAMES = GOLDEN["T"]
WITH_REFERENCES = 'decode(z=input("z",[4,4,8,6]), refs, timesteps=4)'
WITHOUT = "decode without refs (timesteps=4, still no post_quant_conv)"


@pytest.fixture(scope="module")
def autoencoder():
    return fill(DualReferenceAutoencoder(CONFIG))


@pytest.fixture(scope="module")
def references(autoencoder):
    with torch.inference_mode():
        return autoencoder.references(autoencoder.encode(golden_input("image", [FRAMES, 3, 64, 48]), True)[2])


@pytest.fixture(scope="module")
def latents():
    return golden_input("z", [FRAMES, 4, 8, 6])


def test_hidden_states_are_exact(autoencoder):
    with torch.inference_mode():
        mean, _, hidden = autoencoder.encode(golden_input("image", [FRAMES, 3, 64, 48]), return_hidden=True)
    assert_golden(mean, GOLDEN["encode mean"])
    assert [list(states.shape) for states in hidden] == GOLDEN["hidden_state_shapes"]
    for states, expected in zip(hidden, GOLDEN["hidden stats"], strict=True):
        assert_golden(states, expected)
    assert [list(states.shape) for states in autoencoder.references(hidden)] == GOLDEN["ref shapes [b,c,2,h,w]"]


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_decoding_is_exact(references, latents, dtype, rtol):
    model = fill(DualReferenceAutoencoder(CONFIG)).to(dtype)
    with torch.inference_mode():
        seen = model.decode(latents.to(dtype), [reference.to(dtype) for reference in references])
        blind = model.decode(latents.to(dtype))
    assert_golden(seen, GOLDEN[WITH_REFERENCES], rtol)
    assert_golden(blind, GOLDEN[WITHOUT], rtol)


@pytest.mark.parametrize("chunk", [1, 3])
def test_portions_give_what_the_whole_gives(autoencoder, references, latents, chunk):
    with torch.inference_mode():
        assert_golden(autoencoder.decode(latents, references, chunk=chunk), GOLDEN[WITH_REFERENCES])
        pixels = golden_input("image", [FRAMES, 3, 64, 48])
        *_, hidden = autoencoder.encode(pixels, return_hidden=True, chunk=chunk)
    for states, expected in zip(hidden, GOLDEN["hidden stats"], strict=True):
        assert_golden(states, expected)


def test_the_two_given_frames_alone_make_the_same_references(autoencoder, references):
    ends = golden_input("image", [FRAMES, 3, 64, 48])[[0, -1]]
    with torch.inference_mode():
        alone = autoencoder.references(autoencoder.encode(ends, return_hidden=True)[2])
    for states, expected in zip(alone, references, strict=True):
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)


def test_clips_of_a_batch_do_not_see_each_other(autoencoder, references, latents):
    other = [reference.flip(2) for reference in references]
    both = [torch.cat(pair) for pair in zip(references, other, strict=True)]
    with torch.inference_mode():
        batch = autoencoder.decode(torch.cat([latents, 0.5 * latents]), both, FRAMES)
        second = autoencoder.decode(0.5 * latents, other, FRAMES)
    assert_golden(batch[:FRAMES], GOLDEN[WITH_REFERENCES])
    torch.testing.assert_close(batch[FRAMES:], second, rtol=1e-4, atol=1e-4)


def test_frames_are_decoded_jointly(autoencoder, latents):
    changed = latents.clone()
    changed[3] = 0
    with torch.inference_mode():
        before, after = autoencoder.decode(latents), autoencoder.decode(changed)
    assert (before[0] - after[0]).abs().max() > 1e-3


def test_references_are_left_as_they_were(autoencoder, references, latents):
    copies = [reference.clone() for reference in references]
    with torch.inference_mode():
        autoencoder.decode(latents, references)
    assert all(torch.equal(one, other) for one, other in zip(references, copies, strict=True))


def test_released_shapes_tell_the_config_and_are_met():
    prefix, items = "first_stage_model.", manifest("tooncrafter_512").items()
    shapes = {key.removeprefix(prefix): shape for key, shape in items if key.startswith(prefix)}
    config = AutoencoderConfig.from_shapes(shapes)
    assert config == AutoencoderConfig(dual_reference=True)
    model = DualReferenceAutoencoder(config, device="meta")
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == shapes


def test_the_decoder_can_be_trained():
    config = AutoencoderConfig(channels=8, channel_mult=(1, 1, 2), res_blocks=1, norm_groups=4, dual_reference=True)
    model = DualReferenceAutoencoder(config)
    mean, _, hidden = model.encode(torch.randn(3, 3, 8, 8), return_hidden=True)
    model.decode(mean, model.references(hidden)).square().mean().backward()
    unused = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    assert unused == {"post_quant_conv.weight", "post_quant_conv.bias"}


def test_part_of_a_clip_is_refused(autoencoder, latents):
    with pytest.raises(InputError, match="4 latents do not divide into clips of 3 frames"):
        autoencoder.decode(latents, frames=3)
