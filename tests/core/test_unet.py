"""The 3D UNet gives what the original code gave, in every flavour, and takes any clip."""

import pytest
import torch
from golden import assert_golden, fill, golden, golden_input

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models import unet as unet_module
from dynamicrafter_core.models.layout import to_volume
from dynamicrafter_core.models.resblock import TimeConv
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.models.unet_config import UNetConfig

DYNAMICRAFTER = golden("dynamicrafter_golden")
VIDEOCRAFTER = golden("videocrafter_golden")
VIDEOCRAFTER_FLAVOURS = ["vc1_t2v_512_like", "vc1_t2v_1024_like", "vc2_t2v_like", "vc1_i2v_like"]
FLAVOURS = {name: DYNAMICRAFTER[name] for name in ("dc_unet", "dc_unet_alpha")} | {
    name: VIDEOCRAFTER[name] for name in VIDEOCRAFTER_FLAVOURS
}
FRAMES, TEXT_TOKENS = 4, 77

THIN = UNetConfig(model_channels=32, channel_mult=(1, 2), res_blocks=1, head_channels=8, context_dim=12)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def build(flavour: str) -> VideoUNet:
    return fill(VideoUNet(UNetConfig.from_reference(FLAVOURS[flavour]["config"])))


def context(*names: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The golden context, text and per-frame image tokens in a row, as our two arguments."""
    tokens = torch.cat([golden_input(name, [1, 141, 48]) for name in names])
    return tokens[:, :TEXT_TOKENS], tokens[:, TEXT_TOKENS:].unflatten(1, (FRAMES, 16))


def latent(channels: int, *names: str) -> torch.Tensor:
    return torch.cat([golden_input(name, [1, channels, FRAMES, 16, 24]) for name in names])


def case(flavour: str, letter: str) -> dict:
    return next(value for key, value in FLAVOURS[flavour].items() if key.startswith(f"{letter}:"))


@pytest.mark.parametrize("flavour", ["dc_unet", "dc_unet_alpha"])
def test_dynamicrafter_unet_is_exact(flavour):
    unet = build(flavour)
    text, image = context("context")
    x = latent(8, "x")
    fs = torch.tensor([10])
    assert_golden(unet(x, torch.tensor([321]), text, image, fs), case(flavour, "A"))
    assert_golden(unet(x, torch.tensor([321]), text, image[:, :1], fs), case(flavour, "B"))  # shared by the frames
    assert_golden(unet(x, torch.tensor([0]), text, image), case(flavour, "C"))  # the default fs
    both = unet(latent(8, "x", "x2"), torch.tensor([321, 5]), *context("context", "context2"), torch.tensor([10, 3]))
    assert_golden(both, case(flavour, "D"))


@pytest.mark.parametrize("flavour", VIDEOCRAFTER_FLAVOURS)
def test_videocrafter_unet_is_exact(flavour):
    unet = build(flavour)
    text, image = context("context")
    x, t = latent(4, "x"), torch.tensor([321])
    shared = image[:, :1] if "i2v" in flavour else None
    assert_golden(unet(x, t, text, shared, torch.tensor([8])), FLAVOURS[flavour]["fps=[8]"])
    assert_golden(unet(x, t, text, shared), FLAVOURS[flavour]["fps omitted (default 16)"])


@pytest.mark.slow
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_bfloat16_stays_close(flavour):
    unet = build(flavour).bfloat16()
    record = FLAVOURS[flavour]
    text, image = context("context")
    x = latent(record["config"]["in_channels"], "x").bfloat16()
    if flavour.startswith("dc"):
        out, expected = unet(x, torch.tensor([321]), text, image, torch.tensor([10])), case(flavour, "A")
    else:
        shared = image[:, :1] if "i2v" in flavour else None
        out, expected = unet(x, torch.tensor([321]), text, shared, torch.tensor([8])), record["fps=[8]"]
    assert out.dtype == torch.bfloat16
    assert_golden(out, expected, rtol=2e-2)


@pytest.mark.parametrize("name", DYNAMICRAFTER["dc_unet"]["intermediates_for_A"])
def test_every_part_of_the_way_is_exact(name):
    unet = build("dc_unet")
    seen = {}
    part = unet.get_submodule(name)
    part.register_forward_hook(lambda module, args, output: seen.update(out=output))
    text, image = context("context")
    unet(latent(8, "x"), torch.tensor([321]), text, image, torch.tensor([10]))
    expected = DYNAMICRAFTER["dc_unet"]["intermediates_for_A"][name]
    out = seen["out"]
    if len(expected["shape"]) == 5 and out.ndim == 4:  # the original's temporal layers speak b c t h w
        out = to_volume(out, FRAMES)
    assert_golden(out.reshape(expected["shape"]), expected)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_keys_and_shapes_are_the_originals_and_tell_the_config(flavour):
    record = FLAVOURS[flavour]
    config = UNetConfig.from_reference(record["config"])
    shapes = {key: tuple(value.shape) for key, value in VideoUNet(config, device="meta").state_dict().items()}
    assert shapes == {key: tuple(shape) for key, shape in record["state_keys"].items()}
    assert UNetConfig.from_shapes(shapes, default_fs=config.default_fs, dropout=config.dropout) == config


def random_clip(config: UNetConfig, batch: int, frames: int, height: int, width: int, tokens: int = 77) -> tuple:
    generator = torch.Generator().manual_seed(frames)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    x = draw(batch, config.in_channels, frames, height, width)
    text, image = draw(batch, tokens, config.context_dim), draw(batch, frames, 3, config.context_dim)
    return x, torch.full((batch,), 500), text, image, torch.full((batch,), 10)


@pytest.mark.parametrize("frames", range(1, 65))
def test_any_number_of_frames(frames):
    unet = fill(VideoUNet(THIN))
    out = unet(*random_clip(THIN, 1, frames, 2, 4))
    assert out.shape == (1, 4, frames, 2, 4)
    assert out.isfinite().all()


@pytest.mark.parametrize(("batch", "height", "width", "tokens"), [(1, 8, 8, 1), (3, 16, 8, 77), (2, 8, 24, 231)])
def test_any_batch_size_and_prompt_length(batch, height, width, tokens):
    config = UNetConfig(model_channels=32, res_blocks=1, head_channels=8, context_dim=12)
    out = fill(VideoUNet(config))(*random_clip(config, batch, 3, height, width, tokens))
    assert out.shape == (batch, 4, 3, height, width)
    assert out.isfinite().all()


def test_clips_of_a_batch_do_not_mix():
    unet = fill(VideoUNet(THIN))
    clip = random_clip(THIN, 2, 5, 4, 4)
    alone = torch.cat([unet(*(part[row : row + 1] for part in clip)) for row in range(2)])
    torch.testing.assert_close(unet(*clip), alone, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=["in one batch", "one after another"])
def way(request, monkeypatch) -> str:
    """How guidance branches run: a CPU takes those of large clips one after another."""
    if request.param == "one after another":
        monkeypatch.setattr(unet_module, "LARGE", 0)
    return request.param


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize("image_frames", [1, 5])
def test_branches_share_their_beginning_and_nothing_else(way, branches, image_frames):
    unet = fill(VideoUNet(THIN))
    x, t, _, _, fs = random_clip(THIN, 2, 5, 4, 4)
    text = golden_input("texts", [branches * 2, 7, THIN.context_dim])
    image = golden_input("images", [branches * 2, image_frames, 3, THIN.context_dim])
    alone = [unet(x, t, text[row : row + 2], image[row : row + 2], fs) for row in range(0, branches * 2, 2)]
    torch.testing.assert_close(unet(x, t, text, image, fs), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_the_beginning_runs_once_for_all_branches(way):
    unet = fill(VideoUNet(THIN))
    x, t, _, _, fs = random_clip(THIN, 1, 5, 4, 4)
    res, spatial, temporal = unet.input_blocks[1]
    first = spatial.transformer_blocks[0]
    rows = {name: [] for name in ("res", "own", "text", "time", "middle")}
    layers = (res, first.attn1, first.attn2, temporal, unet.middle_block[0])
    for seen, layer in zip(rows.values(), layers, strict=True):
        layer.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out.shape[0]))
    unet(x, t, golden_input("texts", [3, 7, THIN.context_dim]), None, fs)
    many = [5, 5, 5] if way == "one after another" else [15]
    assert rows == {"res": [5], "own": [5], "text": many, "time": many, "middle": many}


def test_convolution_over_time_in_two_dimensions_is_the_one_in_three():
    torch.manual_seed(0)
    conv = TimeConv(6, 6, (3, 1, 1), padding=(1, 0, 0), dtype=torch.float64)
    line = torch.randn(2, 6, 5, 1, 7, dtype=torch.float64)
    assert torch.allclose(conv(line), torch.nn.Conv3d.forward(conv, line), rtol=0, atol=1e-12)


def test_a_causal_model_does_not_look_ahead():
    config = UNetConfig(**{**THIN.__dict__, "causal": True, "temporal_conv": False, "norm_groups": 1})
    unet = fill(VideoUNet(config))
    attention = unet.middle_block[2].transformer_blocks[0].attn1
    seen = []
    attention.register_forward_hook(lambda module, args, out: seen.append((args[0], args[1], out)))
    unet(*random_clip(config, 1, 6, 4, 4))
    tokens, signals, out = seen[0]
    changed = tokens.clone()
    changed[:, -1] += 1
    torch.testing.assert_close(attention(changed, signals)[:, :-1], out[:, :-1])
    assert not torch.allclose(attention(changed, signals)[:, -1], out[:, -1])


def test_image_strength_weighs_the_image_tokens():
    unet = fill(VideoUNet(THIN))
    x, t, text, image, fs = random_clip(THIN, 1, 5, 4, 4)
    without = unet(x, t, text, None, fs)
    torch.testing.assert_close(unet(x, t, text, image, fs, image_strength=0.0), without)
    full, half = (unet(x, t, text, image, fs, image_strength=strength) for strength in (1.0, 0.5))
    assert 0 < (half - without).norm() < (full - without).norm()


@pytest.mark.parametrize("frames", [4, 8])
def test_image_strength_may_differ_from_row_to_row(frames, monkeypatch):
    monkeypatch.setattr("dynamicrafter_core.models.unet.LARGE", 8 * 4 * 4)  # eight frames: branches one after another
    unet = fill(VideoUNet(THIN))
    x, t, text, image, fs = random_clip(THIN, 1, frames, 4, 4)
    text, image = (torch.cat([one, one]) for one in (text, image))
    both = unet(x, t, text, image, fs, image_strength=torch.tensor([0.5, 2.0]))
    for row, strength in enumerate((0.5, 2.0)):
        alone = unet(x, t, text[:1], image[:1], fs, image_strength=strength)
        torch.testing.assert_close(both[row : row + 1], alone)


def test_control_residuals_join_the_skips_and_the_middle():
    unet = fill(VideoUNet(THIN))
    clip = random_clip(THIN, 1, 5, 4, 4)
    shapes, middle = [], []
    for stage in unet.input_blocks:
        stage.register_forward_hook(lambda module, args, out: shapes.append(out.shape))
    unet.middle_block.register_forward_hook(lambda module, args, out: middle.append(out.shape))
    plain = unet(*clip)
    nothing = ([torch.zeros(shape) for shape in shapes], torch.zeros(middle[0]))
    torch.testing.assert_close(unet(*clip, control=nothing), plain)
    for index, residual in enumerate(nothing[0]):
        something = [*nothing[0][:index], golden_input("residual", residual.shape), *nothing[0][index + 1 :]]
        assert not torch.allclose(unet(*clip, control=(something, nothing[1])), plain)
    assert not torch.allclose(unet(*clip, control=(nothing[0], golden_input("residual", middle[0]))), plain)


def test_every_attention_goes_through_the_function_given():
    calls = []

    def counting(q, k, v, heads, mask=None, options=None):
        calls.append(options["who"])
        return torch.zeros_like(q)

    unet = fill(VideoUNet(THIN, attention=counting))
    unet(*random_clip(THIN, 1, 5, 4, 4), options={"who": "host"})
    attentions = sum(name.endswith(("attn1", "attn2")) for name, _ in unet.named_modules())
    with_image = sum(name.endswith("to_k_ip") for name, _ in unet.named_modules())
    assert calls == ["host"] * (attentions + with_image)


def test_every_leaf_with_weights_comes_from_operations():
    class Marked:
        def __getattr__(self, name):
            base = getattr(torch.nn, name)
            return type(name, (base,), {"marked": True})

    config = UNetConfig(**{**THIN.__dict__, "image_scale_learnable": True, "relative_reach": 4})
    unet = VideoUNet(config, device="meta", operations=Marked())
    raw = {"alpha", "embeddings_table"}
    for name, module in unet.named_modules():
        own = {key for key, _ in module.named_parameters(recurse=False)}
        assert getattr(module, "marked", False) or own <= raw, name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": [1, 4, 5, 4, 4]}, "takes [batch, 8, frames, height, width], not [1, 4, 5, 4, 4]"),
        ({"x": [1, 8, 5, 3, 4]}, "4x3 is not divisible by 2"),
        ({"text": [1, 77, 7]}, "another text encoder"),
        ({"image": [1, 2, 3, 12]}, "do not fit: 1 rows and 5 frames"),
    ],
)
def test_misfits_are_told_in_a_sentence(change, words):
    unet = VideoUNet(THIN, device="meta")
    given = {"x": [1, 8, 5, 4, 4], "text": [1, 77, 12], "image": [1, 5, 3, 12], **change}
    tensors = {name: torch.zeros(shape, device="meta") for name, shape in given.items()}
    with pytest.raises(InputError) as told:
        unet(tensors["x"], torch.tensor([1]), tensors["text"], tensors["image"])
    assert words in str(told.value)


def test_a_config_of_another_network_is_refused():
    with pytest.raises(InputError, match="use_scale_shift_norm"):
        UNetConfig.from_reference({**DYNAMICRAFTER["dc_unet"]["config"], "use_scale_shift_norm": True})
    with pytest.raises(InputError, match="not a video UNet"):
        UNetConfig.from_shapes({"conv.weight": (3, 3)})


def test_torch_compile_makes_one_graph_for_all_steps_and_options() -> None:
    import torch._dynamo as dynamo

    config = UNetConfig(model_channels=32, head_channels=8, channel_mult=(1, 2), res_blocks=1, attention_levels=(0,))
    unet = VideoUNet(config).eval()
    dynamo.reset()
    dynamo.utils.counters.clear()
    compiled = torch.compile(unet, backend="eager", fullgraph=True)
    text, image = torch.randn(2, 77, config.context_dim), torch.randn(2, 4, 16, config.context_dim)
    with torch.inference_mode():
        for step in (3, 2, 1):  # the host's options hold all sigmas of the run
            x, t = torch.randn(1, config.in_channels, 4, 8, 8), torch.tensor([100 * step])
            options = {"sample_sigmas": torch.ones(step)}
            expected = unet(x, t, text, image, options=options)
            torch.testing.assert_close(compiled(x, t, text, image, options=options), expected)
    assert dynamo.utils.counters["stats"]["unique_graphs"] == 1
