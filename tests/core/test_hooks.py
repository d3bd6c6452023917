"""Hooks reach every block and attention of the UNet, and do there what the formula says; without them nothing changes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.attention import attend
from dynamicrafter_core.models.hooks import AttentionHooks, BlockHooks, Hooks, Where
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.models.unet_config import UNetConfig

FRAMES, TOKENS, WIDTH = 3, 5, 12
MIDDLE = "middle spatial 0 attn1"


@pytest.fixture(scope="module")
def unet() -> VideoUNet:
    torch.manual_seed(0)
    made = VideoUNet(
        UNetConfig(model_channels=32, channel_mult=(1, 2), res_blocks=1, head_channels=8, context_dim=WIDTH)
    )
    for parameter in made.parameters():  # zero-initialised layers would hide what passes through them
        torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.fixture(scope="module")
def clip() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(1, 8, FRAMES, 8, 8, generator=random),
        "timesteps": torch.tensor([300]),
        "text": torch.randn(1, TOKENS, WIDTH, generator=random),
        "image": torch.randn(1, FRAMES, 4, WIDTH, generator=random),
    }


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def at(place: str, **hooks) -> Hooks:
    return Hooks(attentions={place: AttentionHooks(**hooks)})


def test_an_empty_record_changes_not_a_bit(unet, clip) -> None:
    assert not Hooks()
    assert torch.equal(unet(**clip, hooks=Hooks()), unet(**clip))


def test_places_name_every_block_and_both_attentions_of_every_transformer(unet) -> None:
    blocks = [f"input {n}" for n in range(len(unet.input_blocks))] + ["middle"]
    blocks += [f"output {n}" for n in range(len(unet.output_blocks))]
    transformers = sum(name.endswith("transformer_blocks.0") for name, _ in unet.named_modules())
    assert set(blocks) <= unet.places
    assert len(unet.places) == len(blocks) + 2 * transformers
    assert {"input 1 spatial 0 attn2", "middle temporal 0 attn1"} <= unet.places


def test_a_hook_that_returns_what_it_got_changes_nothing_at_any_place(unet, clip) -> None:
    seen: list[Where] = []

    def same(*tensors):
        *tensors, where = tensors
        seen.append(where)
        return tensors[0] if len(tensors) == 1 else tuple(tensors)

    points = {"input": {"after_skip": (same,)}, "output": {"before": (same,)}}
    blocks = {
        place: BlockHooks(after=(same,), **points.get(place.split()[0], {}))
        for place in unet.places
        if len(place.split()) <= 2
    }
    attentions = {
        place: AttentionHooks(inputs=(same,), output=(same,), added=(same,)) for place in unet.places - set(blocks)
    }
    torch.testing.assert_close(unet(**clip, hooks=Hooks(blocks, attentions)), unet(**clip))
    assert {where.place for where in seen} == unet.places
    assert {where.frames for where in seen} == {FRAMES}
    assert all(where.shape[0] == FRAMES for where in seen)


def test_scaling_a_block_is_what_a_forward_hook_of_torch_does(unet, clip) -> None:
    ours = unet(**clip, hooks=Hooks({"output 1": BlockHooks(after=(lambda h, where: 1.5 * h,))}))
    handle = unet.output_blocks[1].register_forward_hook(lambda module, given, out: 1.5 * out)
    expected = unet(**clip)
    handle.remove()
    torch.testing.assert_close(ours, expected)
    assert not torch.allclose(ours, unet(**clip))


def test_freeu_is_its_formula_on_stream_and_skip(unet, clip) -> None:
    """FreeU (Si et al. 2023): half the channels of the stream louder, the low frequencies of the skip softer."""
    b, s, low = 1.4, 0.3, 1

    def by_mask(h: torch.Tensor, skip: torch.Tensor, where: Where) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.cat([b * h[:, : h.shape[1] // 2], h[:, h.shape[1] // 2 :]], 1)
        spectrum = torch.fft.fftshift(torch.fft.fft2(skip), dim=(-2, -1))
        mask = torch.ones(skip.shape[-2:])
        middle = [side // 2 for side in skip.shape[-2:]]
        mask[middle[0] - low : middle[0] + low, middle[1] - low : middle[1] + low] = s
        return h, torch.fft.ifft2(torch.fft.ifftshift(spectrum * mask, dim=(-2, -1))).real

    def by_subtraction(block, given):
        joined, signals = given
        stream, skip = joined.split(joined.shape[1] // 2, 1)  # both halves have 64 channels in this block
        half = stream.shape[1] // 2
        stream = stream + torch.cat([(b - 1) * stream[:, :half], 0 * stream[:, half:]], 1)
        height, width = skip.shape[-2:]
        rows, columns = torch.arange(height).float(), torch.arange(width).float()
        for ky in (-1, 0):  # the four lowest frequencies, one complex wave each
            for kx in (-1, 0):
                phase = 2 * torch.pi * (ky * rows[:, None] / height + kx * columns[None, :] / width)
                wave = torch.polar(torch.ones_like(phase), phase)
                amplitude = (skip * wave.conj()).mean((-2, -1), keepdim=True)
                skip = skip - (1 - s) * (amplitude * wave).real
        return torch.cat([stream, skip], 1), signals

    ours = unet(**clip, hooks=Hooks({"output 0": BlockHooks(before=(by_mask,))}))
    handle = unet.output_blocks[0].register_forward_pre_hook(by_subtraction)
    expected = unet(**clip)
    handle.remove()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours, unet(**clip), atol=1e-3)


def test_perturbed_attention_passes_the_values_on(unet, clip, monkeypatch) -> None:
    """PAG (Ahn et al. 2024): the attention map of the middle block becomes the identity."""
    ours = unet(**clip, hooks=at(MIDDLE, compute=lambda q, k, v, where: v))
    attention = unet.middle_block[1].transformer_blocks[0].attn1
    monkeypatch.setattr(attention, "forward", lambda x, signals: attention.to_out(attention.to_v(x)))
    torch.testing.assert_close(ours, unet(**clip))
    monkeypatch.undo()
    assert not torch.allclose(ours, unet(**clip))


def test_an_attention_map_can_be_captured(unet, clip) -> None:
    """SAG (Hong et al. 2023) reads the map that the middle block's first attention computes."""
    maps, heads = [], unet.middle_block[1].transformer_blocks[0].attn1.heads

    def capture(q, k, v, where):
        q, k = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k))
        maps.append((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1))
        return (maps[-1] @ v.unflatten(-1, (heads, -1)).transpose(1, 2)).transpose(1, 2).flatten(2)

    torch.testing.assert_close(unet(**clip, hooks=at(MIDDLE, compute=capture)), unet(**clip), rtol=1e-4, atol=1e-4)
    (captured,) = maps
    assert captured.shape == (FRAMES, heads, 16, 16)  # 4x4 pixels in the middle of an 8x8 latent
    torch.testing.assert_close(captured.sum(-1), torch.ones(FRAMES, heads, 16))


def test_extra_keys_and_values_are_a_longer_prompt(unet, clip) -> None:
    """What IPAdapter-like patches do, at every second attention at once."""
    extra = torch.randn(1, 3, WIDTH, generator=torch.Generator().manual_seed(2))

    def append(x, context, value, where):
        more = extra.repeat(len(context), 1, 1)
        return x, torch.cat([context, more], 1), torch.cat([value, more], 1)

    places = [place for place in unet.places if place.endswith("spatial 0 attn2")]
    hooks = Hooks(attentions={place: AttentionHooks(inputs=(append,)) for place in places})
    longer = {**clip, "text": torch.cat([clip["text"], extra], 1)}
    torch.testing.assert_close(unet(**clip, hooks=hooks), unet(**longer), rtol=1e-4, atol=1e-4)


def test_temporal_attention_has_places_of_its_own(unet, clip) -> None:
    rows = []

    def every_frame_by_itself(q, k, v, where):
        rows.append((q.shape, where.shape))
        return v

    still = unet(**clip, hooks=at("middle temporal 0 attn2", compute=every_frame_by_itself))
    assert rows == [(torch.Size([16, FRAMES, 64]), (FRAMES, 64, 4, 4))]  # a row for each of 4x4 pixels
    assert not torch.allclose(still, unet(**clip))


@pytest.mark.parametrize("place", ["input 1", "middle", "output 0", "input 1 spatial 0 attn1", MIDDLE])
def test_guidance_branches_run_with_hooks_as_each_of_them_alone(unet, clip, place) -> None:
    def louder(h, where):
        factors = torch.linspace(1, 2, len(h) // where.frames).repeat_interleave(where.frames)
        return (h.movedim(0, -1) * factors).movedim(-1, 0)

    def alone(factor: float) -> Hooks:
        return record(lambda h, where: h * factor)

    def record(hook) -> Hooks:
        if "attn" in place:
            return at(place, output=(hook,))
        return Hooks({place: BlockHooks(after=(hook,))})

    texts = [clip["text"] * factor for factor in (1, -1, 0.5)]
    images = [clip["image"] * factor for factor in (1, 2, -1)]
    together = unet(**{**clip, "text": torch.cat(texts), "image": torch.cat(images)}, hooks=record(louder))
    expected = [
        unet(**{**clip, "text": text, "image": image}, hooks=alone(factor))
        for text, image, factor in zip(texts, images, (1.0, 1.5, 2.0), strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_control_residuals_come_before_other_hooks(unet, clip) -> None:
    control = [torch.full((1, 1, 1, 1), 0.5) for _ in unet.input_blocks], torch.full((1, 1, 1, 1), 2.0)
    doubled = Hooks({"middle": BlockHooks(after=(lambda h, where: 2 * h,))})
    handle = unet.middle_block.register_forward_hook(lambda module, given, out: 2 * (out + 2.0))
    skips_only = control[0], torch.zeros(1, 1, 1, 1)
    expected = unet(**clip, control=skips_only)
    handle.remove()
    torch.testing.assert_close(unet(**clip, control=control, hooks=doubled), expected)


def test_blocks_may_work_at_another_size(unet, clip) -> None:
    """Deep shrink (Kohya): smaller from one input block on, and back to its skip's size at the other end."""
    sizes = []

    def shrink(h, where):
        return F.interpolate(h, (5, 7))

    def grow(h, skip, where):
        sizes.append((h.shape[2:], skip.shape[2:]))
        return F.interpolate(h, skip.shape[2:]), skip

    last = len(unet.output_blocks) - 1
    hooks = Hooks({"input 0": BlockHooks(after_skip=(shrink,)), f"output {last}": BlockHooks(before=(grow,))})
    out = unet(**clip, hooks=hooks)
    assert sizes == [((5, 7), (8, 8))]
    assert out.shape == (1, 4, FRAMES, 8, 8)


def test_records_join_in_order(unet, clip) -> None:
    add = Hooks({"middle": BlockHooks(after=(lambda h, where: h + 1,))})
    double = Hooks({"middle": BlockHooks(after=(lambda h, where: 2 * h,))})
    both = Hooks({"middle": BlockHooks(after=(lambda h, where: 2 * (h + 1),))})
    torch.testing.assert_close(unet(**clip, hooks=add.then(double)), unet(**clip, hooks=both))
    assert add.then(Hooks()) is add
    assert Hooks().then(add) is add


def test_two_replacements_of_one_attention_are_refused() -> None:
    one, other = (at(MIDDLE, compute=attend) for _ in range(2))
    with pytest.raises(InputError, match=f"'{MIDDLE}'.*only one can"):
        one.then(other)


def test_an_unknown_place_is_refused_with_examples(unet, clip) -> None:
    with pytest.raises(InputError, match="no place called 'input 99': its `places` lists them all"):
        unet(**clip, hooks=Hooks({"input 99": BlockHooks()}))


@pytest.mark.parametrize(
    "hooks",
    [
        Hooks({"input 1": BlockHooks(before=(lambda h, skip, where: (h, skip),))}),
        Hooks({"output 1": BlockHooks(after_skip=(lambda h, where: h,))}),
        Hooks({MIDDLE: BlockHooks(after=(lambda h, where: h,))}),
        Hooks(attentions={"middle": AttentionHooks(output=(lambda h, where: h,))}),
    ],
)
def test_a_hook_that_would_never_be_called_is_refused(unet, clip, hooks) -> None:
    with pytest.raises(InputError, match="would never be called"):
        unet(**clip, hooks=hooks)


@pytest.mark.slow
def test_the_documented_example_captures_a_map() -> None:
    text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = f"{example}\n(captured,) = maps\nassert captured.shape == (4, 4, 1, 1), captured.shape\n"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
