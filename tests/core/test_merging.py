"""Parts of two models in one file: by hand, the same sums, and a file that loads again."""

import re

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import tiny_checkpoint, tiny_configs, tiny_state

from dynamicrafter_core import Pipeline, merge
from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.models.layer_kinds import image_model_keys, temporal_keys
from dynamicrafter_core.models.parts import build, shapes_of
from dynamicrafter_core.part_names import PREFIXES

pytestmark = pytest.mark.slow

UNET = PREFIXES["unet"]
TEMPORAL = re.compile(
    r"temopral_conv|^init_attn|^fps_embedding|(input_blocks|output_blocks)\.\d+\.2\.(?!conv)|middle_block\.2\."
)


def files(folder):
    first = tiny_checkpoint(folder / "dynamicrafter_512.safetensors", metadata={"family": "dynamicrafter_512"})
    second = tiny_checkpoint(folder / "second.safetensors", metadata={"family": "dynamicrafter_512"}, seed=1)
    return first, second


def image_model(path, context=64):
    """Stable Diffusion 2's keys of the same widths, written down from its layout: four channels in, no temporal layers."""
    state, generator = {}, torch.Generator().manual_seed(2)
    for key, shape in shapes_of(tiny_configs("dynamicrafter_512")["unet"]).items():
        if TEMPORAL.search(key) or re.search(r"_ip\.|alpha", key):
            continue
        key = re.sub(r"^middle_block\.3\.", "middle_block.2.", key)
        key = re.sub(r"^(output_blocks\.\d+)\.3\.conv", r"\1.2.conv", key)
        shape = (shape[0], 4, *shape[2:]) if key == "input_blocks.0.0.weight" else shape
        state[UNET + key] = torch.randn(shape, generator=generator)
    save_file(state, path)
    return path


def test_temporal_layers_are_those_of_the_released_names() -> None:
    unet = build(tiny_configs("dynamicrafter_512")["unet"], device="meta")
    assert temporal_keys(unet) == {key for key in unet.state_dict() if TEMPORAL.search(key)}


def test_the_released_spatial_half_has_stable_diffusions_686_tensors() -> None:
    from dynamicrafter_core.families import find_family

    names = image_model_keys(build(find_family("dynamicrafter_1024").unet, device="meta"))
    assert len(names) == len(set(names.values())) == 686
    assert names["middle_block.3.in_layers.0.weight"] == "middle_block.2.in_layers.0.weight"
    assert names["output_blocks.8.3.conv.weight"] == "output_blocks.8.2.conv.weight"
    assert names["output_blocks.2.1.conv.weight"] == "output_blocks.2.1.conv.weight"  # no transformers at this level


def test_every_part_is_mixed_by_its_own_share(tmp_path) -> None:
    first, second = files(tmp_path)
    (written,) = merge(
        first, second, tmp_path / "out.safetensors", spatial=0.25, temporal=1, projector=0.5, dtype="fp32"
    )
    one, two, out = tiny_state("dynamicrafter_512"), tiny_state("dynamicrafter_512", 1), load_file(written)
    assert out.keys() == one.keys()
    shares = {UNET: 0.25, PREFIXES["projector"]: 0.5}
    for key, value in out.items():
        share = next((share for prefix, share in shares.items() if key.startswith(prefix)), 0.0)
        if share == 0.25 and TEMPORAL.search(key.removeprefix(UNET)):
            share = 1.0
        torch.testing.assert_close(value, one[key] + share * (two[key] - one[key]), msg=key)


def test_an_image_model_gives_its_spatial_layers_alone(tmp_path) -> None:
    first, _ = files(tmp_path)
    other = load_file(image_model(tmp_path / "sd2.safetensors"))
    merge(first, tmp_path / "sd2.safetensors", tmp_path / "out.safetensors", spatial=1, dtype="fp32")
    merged = load_checkpoint(tmp_path / "out.safetensors").state_dict("unet")
    own = tiny_state("dynamicrafter_512")
    taken = [key for key in merged if not torch.equal(merged[key], own[UNET + key])]
    assert len(taken) == len(other)
    assert not [key for key in taken if TEMPORAL.search(key) or "_ip." in key]
    conv = "input_blocks.0.0.weight"
    assert torch.equal(merged[conv][:, :4], other[UNET + conv])
    assert torch.equal(merged[conv][:, 4:], own[UNET + conv][:, 4:])  # the image's channels stay
    torch.testing.assert_close(
        merged["middle_block.3.emb_layers.1.bias"], other[UNET + "middle_block.2.emb_layers.1.bias"]
    )


def test_a_model_of_text_keeps_what_it_lacks_of_an_image_model(tmp_path) -> None:
    first, _ = files(tmp_path)
    second = tiny_checkpoint(tmp_path / "videocrafter2.safetensors", "videocrafter2_t2v_512", seed=3)
    merge(first, second, tmp_path / "out.safetensors", spatial=1, temporal=1, dtype="fp32")
    merged, own = load_checkpoint(tmp_path / "out.safetensors"), tiny_state("dynamicrafter_512")
    key = "middle_block.1.transformer_blocks.0.attn2.to_k_ip.weight"
    assert torch.equal(merged.state_dict("unet")[key], own[UNET + key])
    assert merged.family.name == "dynamicrafter_512"


def test_the_merged_file_makes_a_clip_and_says_how_it_was_made(tmp_path) -> None:
    first, second = files(tmp_path)
    out = tmp_path / "out.safetensors"
    assert main(["merge", str(first), str(second), str(out), "--temporal", "0.5", "--quiet"]) == 0
    with safe_open(out, "pt") as file:
        assert (
            '"merged": {"with": "second.safetensors", "spatial": 0.0, "temporal": 0.5'
            in file.metadata()["dynamicrafter"]
        )
    clip = Pipeline(out, device="cpu", dtype="fp32").animate(
        torch.zeros(3, 64, 64), "", width=64, height=64, frames=2, steps=1
    )
    assert clip.frames.shape == (2, 64, 64, 3)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "all 0, which keeps the first model"),
        ({"spatial": 1.5}, "spatial is 1.5; give a number from 0 to 1"),
        ({"temporal": float("nan")}, "temporal is nan"),
        ({"temporal": 0.5}, "without temporal layers; set temporal to 0"),
        ({"projector": 0.5}, "an image diffusion model, not a checkpoint"),
    ],
)
def test_wrong_shares_are_refused_in_a_sentence(tmp_path, shares, message) -> None:
    first, _ = files(tmp_path)
    second = image_model(tmp_path / "sd2.safetensors")
    with pytest.raises(InputError, match=message):
        merge(first, second, tmp_path / "out.safetensors", **shares)
    assert not (tmp_path / "out.safetensors").exists()


def test_models_of_other_sizes_are_refused_by_the_first_shape_that_differs(tmp_path) -> None:
    first, second = files(tmp_path)
    state = load_file(second)
    key = UNET + "out.2.weight"
    save_file({**state, key: torch.cat([state[key], state[key]])}, tmp_path / "wide.safetensors")
    with pytest.raises(InputError, match="out.2.bias"):
        merge(first, tmp_path / "wide.safetensors", tmp_path / "out.safetensors", spatial=1)
    save_file({"input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3)}, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="give a model of this family, or one with the UNet of Stable Diffusion 2"):
        merge(first, tmp_path / "part.safetensors", tmp_path / "out.safetensors", spatial=1)
    with pytest.raises(InputError, match="is the file to be converted|another name"):
        merge(first, second, second, spatial=1, overwrite=True)
