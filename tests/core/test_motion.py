"""Weights inside the UNet: lambda by part, strength and temperature over time, attention to the first frame."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import ANIMATE, Spy, micro_configs, picture
from torch import Tensor
from torch.nn import functional as F

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.hooks import AttentionHooks, Hooks
from dynamicrafter_core.models.motion import Motion, over_frames
from dynamicrafter_core.models.unet import VideoUNet
from dynamicrafter_core.models.unet_config import UNetConfig
from dynamicrafter_core.pipeline.pipeline import Pipeline

FRAMES, SIDE = 5, 4


def make_unet(**figures: Any) -> VideoUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config: Any = micro_configs(ANIMATE)["unet"]
        unet = VideoUNet(replace(config, **figures))
        for parameter in unet.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return unet.eval()


@torch.inference_mode()
def answer(unet: VideoUNet, hooks: Hooks = Hooks(), frames: int = FRAMES, **more: Any) -> Tensor:  # noqa: B008 (frozen)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, unet.config.in_channels, frames, SIDE, SIDE, generator=generator)
    text = torch.randn(2, 7, unet.config.context_dim, generator=generator)
    image = torch.randn(2, 1, 5, unet.config.context_dim, generator=generator)
    return unet(x, torch.tensor([500]), text, image, torch.tensor([10]), hooks=hooks, **more)


def test_as_trained_there_are_no_hooks() -> None:
    assert not Motion().hooks(make_unet().places, 0.5)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_lambda_of_both_parts_is_the_lambda_of_all(weight: float) -> None:
    unet = make_unet()
    by_part = answer(unet, Motion(ends=weight, middle=weight).hooks(unet.places, 0.5))
    torch.testing.assert_close(by_part, answer(unet, image_strength=weight), rtol=1e-4, atol=1e-5)


def test_the_middle_half_of_the_layers_that_see_the_image_is_the_middle() -> None:
    places = VideoUNet(UNetConfig(), device="meta").places
    hooks = Motion(middle=3.0).hooks(places, 0.0)
    seen = {place: record.image[0](torch.ones(1), None) for place, record in hooks.attentions.items()}  # type: ignore[arg-type]
    middle = {" ".join(place.split()[:-3]) for place, weight in seen.items() if weight == 3}
    assert middle == {"input 7", "input 8", "middle", *(f"output {number}" for number in range(3, 8))}
    assert {" ".join(place.split()[:-3]) for place, weight in seen.items() if weight == 1} == {
        *(f"input {number}" for number in (1, 2, 4, 5)),
        *(f"output {number}" for number in range(8, 12)),
    }


def test_lambda_by_part_counts_in_its_share_of_the_run() -> None:
    places = make_unet().places
    motion = Motion(middle=2.0, start=0.2, end=0.6)
    assert [bool(motion.hooks(places, done)) for done in (0.0, 0.19, 0.2, 0.6, 0.61, 1.0)] == [0, 0, 1, 1, 0, 0]


def test_strength_scales_what_temporal_attention_adds_at_each_frame() -> None:
    unet = make_unet()
    added: list[Tensor] = []

    def keep(out: Tensor, where: Any) -> Tensor:
        added.append(out)
        return out

    place = "init temporal 0 attn1"  # the first there is, before which nothing differs
    kept = Hooks(attentions={place: AttentionHooks(output=(keep,))})
    answer(unet, kept)
    answer(unet, Motion(strength=(1, 3)).hooks(unet.places, 0.5).then(kept))
    curve = torch.linspace(1, 3, FRAMES)[:, None]
    torch.testing.assert_close(added[1], added[0] * curve)


def test_without_strength_frames_do_not_meet_in_attention() -> None:
    """Nothing else than temporal attention and convolution lets frames meet; here there are no convolutions."""
    unet = make_unet(temporal_conv=False)
    hooks = Motion(strength=(0,)).hooks(unet.places, 0.5)
    with torch.inference_mode():
        whole = answer(unet, hooks)

        def other(changed: Callable[[Tensor], Tensor]) -> Tensor:
            generator = torch.Generator().manual_seed(1)
            x = changed(torch.randn(1, unet.config.in_channels, FRAMES, SIDE, SIDE, generator=generator))
            text = torch.randn(2, 7, unet.config.context_dim, generator=generator)
            image = torch.randn(2, 1, 5, unet.config.context_dim, generator=generator)
            return unet(x, torch.tensor([500]), text, image, torch.tensor([10]), hooks=hooks)

        torch.testing.assert_close(other(lambda x: x.flip(2)).flip(2), whole, rtol=1e-4, atol=1e-5)


def test_temperature_divides_the_logits_of_temporal_attention() -> None:
    unet = make_unet()
    seen: list[tuple[Tensor, ...]] = []
    place = "init temporal 0 attn1"

    def mix(q: Tensor, k: Tensor, v: Tensor, where: Any) -> Tensor:
        seen.append((q, k, v))
        return v

    hooks = Motion(temperature=(0.5,)).hooks(unet.places, 0.5)
    computed = Hooks(attentions={place: AttentionHooks(compute=mix)})
    answer(unet, computed)
    answer(unet, hooks.then(computed))
    (q, k, v), (q_sharp, k_sharp, v_sharp) = seen
    torch.testing.assert_close(q_sharp, 2 * q)
    assert torch.equal(k_sharp, k) and torch.equal(v_sharp, v)


def catch(place: str) -> tuple[Hooks, dict[str, Tensor]]:
    """What goes into an attention, and what comes out of it, once the network has run with these hooks."""
    caught: dict[str, Tensor] = {}

    def keep_input(x: Tensor, context: Tensor, value: Tensor, where: Any) -> tuple[Tensor, Tensor, Tensor]:
        caught["x"] = x
        return x, context, value

    def keep_output(out: Tensor, where: Any) -> Tensor:
        caught["out"] = out
        return out

    return Hooks(attentions={place: AttentionHooks(inputs=(keep_input,), output=(keep_output,))}), caught


@pytest.mark.parametrize(("manner", "share"), [("in-place", 1.0), ("in-place", 0.3), ("beside", 1.0), ("beside", 0.3)])
def test_first_frame_attention_is_attention_to_its_keys_and_values(manner: Any, share: float) -> None:
    """Against the formula, at one layer whose input is caught."""
    unet = make_unet()
    place = "input 1 spatial 0 attn1"
    layer = unet.get_submodule("input_blocks.1.1.transformer_blocks.0.attn1")
    watch, caught = catch(place)
    hooks = Motion(first_frame=share, manner=manner).hooks(unet.places, 0.5)
    assert set(hooks.attentions) == {name for name in unet.places if "spatial" in name and name.endswith("attn1")}
    answer(unet, watch.then(hooks))

    x = caught["x"]  # (k t) l c
    first = x.unflatten(0, (-1, FRAMES))[:, :1].expand(-1, FRAMES, -1, -1).flatten(0, 1)
    mixed = (1 - share) * x + share * first
    context = torch.cat([x, mixed], 1) if manner == "beside" else mixed

    def heads(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    with torch.inference_mode():
        q, k, v = heads(layer.to_q(x)), heads(layer.to_k(context)), heads(layer.to_v(context))
        weights = F.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        wanted = layer.to_out((weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(caught["out"], wanted, rtol=1e-4, atol=1e-5)


def test_causal_attention_is_attention_to_itself_and_the_past() -> None:
    """Against the formula, at one layer whose input is caught, and with a temperature beside it."""
    unet = make_unet()
    place = "middle temporal 0 attn2"
    layer = unet.get_submodule("middle_block.2.transformer_blocks.0.attn2")
    watch, caught = catch(place)
    hooks = Motion(causal=True, temperature=(0.5,)).hooks(unet.places, 0.5)
    assert set(hooks.attentions) == {name for name in unet.places if "temporal" in name}
    answer(unet, watch.then(hooks))
    x = caught["x"]  # rows t c

    def heads(tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    with torch.inference_mode():
        q, k, v = heads(layer.to_q(x)), heads(layer.to_k(x)), heads(layer.to_v(x))
        wanted = torch.zeros_like(q)
        for frame in range(FRAMES):
            seen = slice(0, frame + 1)
            logits = q[:, :, frame : frame + 1] @ k[:, :, seen].transpose(-1, -2) / (0.5 * math.sqrt(q.shape[-1]))
            wanted[:, :, frame] = (F.softmax(logits, -1) @ v[:, :, seen])[:, :, 0]
        wanted = layer.to_out(wanted.transpose(1, 2).flatten(2))
    torch.testing.assert_close(caught["out"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reach", [0, 4])
def test_causal_hooks_are_the_causal_network(reach: int) -> None:
    """Also where frames know their distance, as in VideoCrafter1's text models."""
    free, bound = make_unet(relative_reach=reach), make_unet(relative_reach=reach, causal=True)
    bound.load_state_dict(free.state_dict())
    by_hooks = answer(free, Motion(causal=True).hooks(free.places, 0.5))
    torch.testing.assert_close(by_hooks, answer(bound))
    assert (by_hooks - answer(free)).abs().max() > 1e-4
    torch.testing.assert_close(answer(bound, Motion(causal=True).hooks(bound.places, 0.5)), answer(bound))


def test_causal_and_a_hook_in_place_of_attention_are_refused() -> None:
    place = "middle temporal 0 attn1"
    causal = Motion(causal=True).hooks([place], 0.5)
    with pytest.raises(InputError, match="another limits what it sees"):
        causal.then(Hooks(attentions={place: AttentionHooks(compute=lambda q, k, v, where: v)}))
    masks = causal.attentions[place].masks
    with pytest.raises(InputError, match="`masks` are for temporal attentions"):
        answer(make_unet(), Hooks(attentions={"middle spatial 0 attn1": AttentionHooks(masks=masks)}))


def test_a_curve_is_spread_over_the_frames() -> None:
    like = torch.zeros(2, 5, 3)
    torch.testing.assert_close(over_frames((1, 2, 0), like)[:, 0], torch.tensor([1, 1.5, 2, 1, 0]))
    assert over_frames((2,), like).tolist() == [[2]] * 5


def test_motion_is_read_from_a_text() -> None:
    assert Motion.read("") == Motion()
    text = "middle 2, ends 0.5, from 0.1, to 0.7, strength 1 1.5, temperature 0.8, in-place 0.4"
    assert Motion.read(text) == Motion(0.5, 2, 0.1, 0.7, (1, 1.5), (0.8,), 0.4, "in-place")
    assert Motion.read("causal") == Motion(causal=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("faster 2", "motion holds 'faster 2'; give parts such as"),
        ("middle", "motion holds 'middle'"),
        ("causal 1", "motion holds 'causal 1'"),
        ("middle 1 2", "motion holds 'middle 1 2'"),
        ("middle -1", "lambda of the middle is -1.0"),
        ("strength 99", "motion strength is 99.0"),
        ("temperature 0", "motion temperature is 0.0"),
        ("beside 2", "first-frame attention is 2.0"),
        ("from 0.5, to 0.2", "the end must come later"),
    ],
)
def test_a_bad_motion_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Motion.read(text)


def test_a_run_passes_the_hooks_of_each_step(model_of: Callable[[str], Path], spy: Spy) -> None:
    clip = Pipeline(model_of(ANIMATE)).animate(picture(), steps=4, motion="middle 2, to 0.5")
    assert [bool(call["hooks"]) for call in spy.calls] == [True, True, False, False]
    assert clip.settings["motion"]["middle"] == 2


@pytest.mark.slow
def test_the_image_is_not_weighed_where_there_is_none(model_of: Callable[[str], Path], spy: Spy) -> None:
    pipeline = Pipeline(model_of("videocrafter2_t2v_512"))
    with pytest.raises(InputError, match="sees no image"):
        pipeline.generate("a cat", motion="middle 2")
    pipeline.generate("a cat", steps=1, motion="strength 2, beside 0.5")
    assert spy.first["hooks"]
