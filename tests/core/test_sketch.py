"""The sketch encoder: released names and shapes, a copy of the UNet's way down, and a control the UNet takes."""

import pytest
import torch
from golden import fill, manifest

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.layout import to_frames
from dynamicrafter_core.models.sketch import SketchEncoder, SketchEncoderConfig
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.models.unet_config import UNetConfig

THIN = UNetConfig(
    in_channels=4,
    model_channels=32,
    channel_mult=(1, 2),
    res_blocks=1,
    attention_levels=(0,),
    head_channels=8,
    context_dim=12,
    temporal_conv=False,
    init_attention=False,
    image_attention=False,
    fs_condition=False,
)
CONFIG = SketchEncoderConfig(THIN, hint_channels=1, hint_widths=(4, 6, 8))
FRAMES = 3


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def encoder():
    return fill(SketchEncoder(CONFIG))


def inputs(branches=1, batch=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 4, FRAMES, 4, 6, generator=generator)
    hint = torch.rand(batch, 1, FRAMES, 16, 24, generator=generator)
    text = torch.randn(branches * batch, 7, 12, generator=generator)
    return x, hint, torch.tensor([3, 700])[:batch], text


def flat(control):
    return [*control[0], control[1]]


def test_released_shapes_tell_the_config_and_are_met():
    shapes = manifest("tooncrafter_sketch_encoder")
    assert SketchEncoderConfig.from_shapes(shapes) == SketchEncoderConfig()
    state = SketchEncoder(device="meta").state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == shapes


def test_a_smaller_encoder_is_told_by_its_shapes(encoder):
    shapes = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    assert SketchEncoderConfig.from_shapes(shapes, head_channels=8) == CONFIG


def test_untrained_it_changes_nothing():
    encoder = SketchEncoder(CONFIG).eval()
    assert all(not residual.any() for residual in flat(encoder(*inputs())))


def test_it_is_the_unets_way_down_when_the_drawing_counts_for_nothing(encoder):
    """With 1x1 convolutions that pass on what they get, the residuals are the UNet's own skips and middle."""
    for layer in [*encoder.zero_convs, encoder.middle_block_out]:
        torch.nn.init.dirac_(layer[0].weight)
        layer[0].bias.zero_()
    encoder.input_hint_block[-1].weight.zero_()
    encoder.input_hint_block[-1].bias.zero_()

    unet = fill(VideoUNet(THIN))
    renamed = {key.replace("middle_block.2", "middle_block.3"): value for key, value in encoder.state_dict().items()}
    unet.load_state_dict({key: value for key, value in renamed.items() if key in unet.state_dict()}, strict=False)
    for name, module in unet.named_modules():
        if name.endswith("proj_out") and name.split(".")[-2] == "2":  # the temporal transformers add nothing
            module.weight.zero_()
            module.bias.zero_()
    seen = []
    for stage in [*unet.input_blocks, unet.middle_block]:
        stage.register_forward_hook(lambda module, given, output: seen.append(output))

    x, hint, timesteps, text = inputs()
    unet(x, timesteps, text)
    control = flat(encoder(x, hint, timesteps, text, strength=1.0))
    assert len(control) == len(seen) == 5
    for residual, expected in zip(control, seen, strict=True):
        torch.testing.assert_close(residual, expected, rtol=1e-4, atol=1e-4)


def test_the_drawing_is_added_to_the_first_features(encoder):
    x, hint, timesteps, text = inputs()
    features = encoder.input_blocks[0][0](to_frames(x)) + encoder.input_hint_block(to_frames(hint))
    first = encoder(x, hint, timesteps, text, strength=1.0)[0][0]
    torch.testing.assert_close(first, encoder.zero_convs[0](features), rtol=1e-4, atol=1e-4)


def test_strength_multiplies_every_residual(encoder):
    whole, part = (flat(encoder(*inputs(), strength=strength)) for strength in (1.0, 0.25))
    for one, other in zip(whole, part, strict=True):
        torch.testing.assert_close(other, one * 0.25)


def test_guidance_branches_together_are_the_branches_singly(encoder):
    x, hint, timesteps, text = inputs(branches=2)
    together = flat(encoder(x, hint, timesteps, text))
    singly = [flat(encoder(x, hint, timesteps, part)) for part in text.chunk(2)]
    for both, first, second in zip(together, *singly, strict=True):
        expected = torch.cat([first, second]) if len(both) > len(first) else first
        torch.testing.assert_close(both, expected, rtol=1e-4, atol=1e-4)


def test_the_unet_takes_its_control(encoder):
    unet = fill(VideoUNet(THIN))
    x, hint, timesteps, text = inputs(branches=2)
    without = unet(x, timesteps, text)
    assert torch.equal(unet(x, timesteps, text, control=encoder(x, hint, timesteps, text, strength=0.0)), without)
    steered = unet(x, timesteps, text, control=encoder(x, hint, timesteps, text))
    assert steered.shape == without.shape
    assert (steered - without).abs().max() > 1e-2


def test_bfloat16_is_near(encoder):
    exact = flat(encoder(*inputs()))
    x, hint, timesteps, text = inputs()
    near = flat(encoder.bfloat16()(x.bfloat16(), hint, timesteps, text))
    for one, other in zip(exact, near, strict=True):
        assert other.dtype == torch.bfloat16
        assert (one - other.float()).abs().max() <= 2e-2 * one.abs().max()


def test_misfits_are_told_in_a_sentence(encoder):
    x, hint, timesteps, text = inputs()
    with pytest.raises(
        InputError, match=r"noisy latent alone, \[batch, 4, frames, height, width\], not \[2, 8, 3, 4, 6\]"
    ):
        encoder(torch.cat([x, x], dim=1), hint, timesteps, text)
    with pytest.raises(InputError, match=r"\[2, 1, 3, 8, 12\] do not fit the latent: \[2, 1, 3, 16, 24\] is needed"):
        encoder(x, hint[..., ::2, ::2], timesteps, text)
    with pytest.raises(InputError, match="input_hint_block is missing"):
        SketchEncoderConfig.from_shapes({"latents": (1, 2, 3)})
