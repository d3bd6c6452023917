"""T2V-Turbo from the files it is released in to a clip: a bare UNet, with VideoCrafter2's checkpoint beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import golden
from micro import FRAMES, HEIGHT, WIDTH, Spy, micro_state, picture
from safetensors.torch import load_file

from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
from dynamicrafter_core.checkpoints.conversion import convert
from dynamicrafter_core.checkpoints.detection import detect
from dynamicrafter_core.checkpoints.reading import open_file
from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.part_names import PREFIXES
from dynamicrafter_core.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.slow

PLAIN, MOTION, BASE = "t2v_turbo_vc2", "t2v_turbo_v2_mg", "videocrafter2_t2v_512"
RELEASED = {PLAIN: "unet_no_mg.pt", MOTION: "unet_mg.pt"}
SIZE: dict[str, Any] = {"width": WIDTH, "height": HEIGHT}


@pytest.fixture
def released(tmp_path: Path) -> Callable[[str], Path]:
    """A small file in the layout of the released one: a state dict without prefixes, and nothing that tells its variant."""

    def make(name: str) -> Path:
        prefix = PREFIXES["unet"]
        unet = {key.removeprefix(prefix): v for key, v in micro_state(name).items() if key.startswith(prefix)}
        torch.save(unet, tmp_path / RELEASED[name])
        return tmp_path / RELEASED[name]

    return make


@pytest.mark.parametrize(("flavour", "name"), [("turbo_like", PLAIN), ("turbo_v2_mg_like", MOTION)])
def test_the_originals_keys_tell_the_variant(flavour: str, name: str) -> None:
    found = detect(golden("t2v_turbo_golden")[flavour]["state_keys"])
    assert (found.name, found.candidates) == (name, (name,))
    assert "takes the guidance scale as input" in found.evidence[0]


@pytest.mark.parametrize("name", [PLAIN, MOTION])
@pytest.mark.parametrize("first", ["unet", "whole"])
def test_a_bare_unet_beside_videocrafter2_makes_a_clip(
    model_of: Callable[[str], Path], released: Callable[[str], Path], name: str, first: str
) -> None:
    files = [released(name), model_of(BASE)]
    path, extra = files if first == "unet" else reversed(files)
    pipeline = Pipeline(path, extra=[extra])
    assert pipeline.family.name == name
    assert pipeline.checkpoint.parts == ("unet", "autoencoder", "text")
    assert not pipeline.checkpoint.buffers.names  # VideoCrafter2's schedule is not this UNet's
    clip = pipeline.generate("a panda", **SIZE)
    assert clip.frames.shape == (FRAMES, HEIGHT, WIDTH, 3) and clip.frames.float().std() > 1
    told = {key: clip.settings[key] for key in ("steps", "text_scale", "motion_scale", "fs", "variant")}
    motion = 0.05 if name == MOTION else None
    assert told == {"steps": 4, "text_scale": 7.5, "motion_scale": motion, "fs": 8, "variant": name}
    assert torch.equal(clip.frames, pipeline.generate("a panda", **SIZE).frames)
    assert not torch.equal(clip.frames, pipeline.generate("a panda", text_scale=2.0, **SIZE).frames)


def test_the_unet_is_told_its_scales_in_one_pass_a_step(model_of: Callable[[str], Path], spy: Spy) -> None:
    Pipeline(model_of(MOTION)).generate("a panda", steps=4, text_scale=5.0, motion_scale=0.1, fs=16)
    assert [call["t"].tolist() for call in spy.calls] == [[999], [759], [519], [279]]
    assert [round(call["motion_scale"].item(), 4) for call in spy.calls] == [0.1, 0.1, 0.1, 0.0]
    assert {(call["guidance"].item(), call["fs"].item(), len(call["text"])) for call in spy.calls} == {(5.0, 16, 1)}
    spy.calls.clear()
    Pipeline(model_of(PLAIN)).generate("a panda", steps=2)
    assert [(call["guidance"].item(), call["motion_scale"]) for call in spy.calls] == [(7.5, None)] * 2


def test_both_files_become_one_that_is_found_again(
    model_of: Callable[[str], Path], released: Callable[[str], Path], tmp_path: Path
) -> None:
    (whole,) = convert(released(MOTION), tmp_path / "whole.safetensors", dtype="keep", extra=[model_of(BASE)])
    assert "scale_arr" not in load_file(whole)
    checkpoint = load_checkpoint(whole)
    assert (checkpoint.family.name, checkpoint.detection.ambiguous) == (MOTION, False)
    assert checkpoint.parts == ("unet", "autoencoder", "text")


def test_the_command_line_makes_a_clip_of_both_files(
    model_of: Callable[[str], Path], released: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "panda.png"
    files = ["-m", str(released(MOTION)), "--extra", str(model_of(BASE)), "-o", str(out), "--quiet"]
    assert (
        main(["generate", "a panda", *files, "--size", f"{WIDTH}x{HEIGHT}", "--steps", "1", "--motion-scale", "0.1"])
        == 0
    )
    assert out.exists()


def test_the_first_release_is_a_lora_without_names_and_is_refused(tmp_path: Path) -> None:
    torch.save([torch.nn.Parameter(torch.zeros(4, 8)), torch.zeros(8, 4)], tmp_path / "unet_lora.pt")
    with pytest.raises(InputError, match="list of 2 tensors without names.*T2V-Turbo's LoRA.*unet_mg.pt"):
        open_file(tmp_path / "unet_lora.pt")


def test_a_unet_alone_says_what_it_lacks(released: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="no autoencoder and no text part, which t2v_turbo_vc2 needs"):
        Pipeline(released(PLAIN))


def test_a_file_named_for_what_it_is_not_is_told_so(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=f"time_cond_proj.*nearest to {BASE}"):
        load_checkpoint(model_of(BASE), PLAIN)
    with pytest.raises(InputError, match=f"unknown.*time_cond_proj.*nearest to {PLAIN}"):
        load_checkpoint(model_of(PLAIN), BASE)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 51}, "steps is 51.*1 to 50"),
        ({"motion_scale": 0.1}, "motion scale is 0.1, but t2v_turbo_vc2 has none"),
        ({"negative": "dark"}, "negative is given.*distilled"),
        ({"eta": 0.0}, "eta is given"),
        ({"spacing": "uniform"}, "spacing is given"),
        ({"guidance_rescale": 0.7}, "guidance rescale is given"),
        ({"start_step": 940}, "start step is given"),
        ({"strength": 0.5}, "strength is given"),
        ({"original": [picture()] * 16}, "original is given"),
        ({"mask": [1.0] * 16}, "mask is given"),
        ({"image_scale": 2.0}, "cfg-image"),
    ],
)
def test_what_a_distilled_model_has_no_use_for_is_refused(
    model_of: Callable[[str], Path], options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        Pipeline(model_of(PLAIN)).generate("a panda", **options)


def test_scales_of_a_distilled_model_are_refused_elsewhere_and_out_of_range(model_of: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=f"motion scale is 0.1, but {BASE} has none"):
        Pipeline(model_of(BASE)).generate("a panda", motion_scale=0.1)
    with pytest.raises(InputError, match="motion scale is -1.*0 to 100"):
        Pipeline(model_of(MOTION)).generate("a panda", motion_scale=-1)


def test_an_initial_noise_is_refused(model_of: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="distilled.*initial_noise"):
        Pipeline(model_of(MOTION), initial_noise=tmp_path / "noise.pt")
