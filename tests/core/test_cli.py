"""The command line, called in process: what it makes and says; a refusal is one sentence, and leaves nothing."""

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from micro import ANIMATE, FRAMES, HEIGHT, INTERPOLATE, WIDTH, Spy, picture
from PIL import Image
from safetensors.torch import save_file

import dynamicrafter_core
from dynamicrafter_core.checkpoints.checkpoint import load_checkpoint
from dynamicrafter_core.cli.main import main
from dynamicrafter_core.media import saving
from dynamicrafter_core.media.saving import read_settings

pytestmark = pytest.mark.slow

ModelOf = Callable[[str], Path]
Run = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands run, with a photo in it."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture()).save("photo.png")
    return tmp_path


def listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*")}


# --- what it makes ----------------------------------------------------------------------------------------------------


def test_animate_writes_every_kind_of_file_asked_for(
    model_of: ModelOf, spy: Spy, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["clip.mp4", "clip.gif", "sheet.png", "frames"]
    asked = [word for name in outputs for word in ("-o", name)]
    assert (
        main(["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE)), "--steps", "2", "--seed", "9", *asked])
        == 0
    )
    with av.open("clip.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    for name in outputs:
        settings = read_settings(name)
        assert (settings["prompt"], settings["seed"], settings["steps"]) == ("a cat", 9, 2)
    assert len(list((folder / "frames").iterdir())) == FRAMES
    said = capsys.readouterr()
    assert said.err == ""
    assert f"clip.mp4: {FRAMES} frames of {WIDTH}x{HEIGHT}, seed 9" in said.out and "peak memory" in said.out


@pytest.mark.parametrize(
    ("words", "name", "frames"),
    [
        (["animate", "photo.png", "a cat"], ANIMATE, FRAMES),
        (["interpolate", "photo.png", "photo.png", "a cat"], INTERPOLATE, FRAMES),
        (["loop", "photo.png", "a cat"], INTERPOLATE, FRAMES - 1),
        (["generate", "a cat"], "videocrafter2_t2v_512", FRAMES),
    ],
)
def test_every_command_has_a_name_for_its_file(
    model_of: ModelOf, spy: Spy, folder: Path, words: list[str], name: str, frames: int
) -> None:
    assert main([*words, "-m", str(model_of(name)), "--steps", "1"]) == 0
    stem = "clip" if words[0] == "generate" else "photo"
    with av.open(f"{stem}-{words[0]}.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == frames


def test_a_whole_run_repeats_under_its_seed(model_of: ModelOf, folder: Path) -> None:
    for name, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        command = ["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE)), "--steps", "1", "--quiet"]
        assert main([*command, "--seed", seed, "-o", name]) == 0
    one, again, other = (np.asarray(Image.open(folder / name / "frame_0008.png")) for name in ("one", "again", "other"))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_every_option_reaches_the_run(model_of: ModelOf, spy: Spy, folder: Path) -> None:
    Image.new("L", (8, 8), 255).save("mask.png")
    options = {
        "--seed": ("seed", 4),
        "--steps": ("steps", 3),
        "--cfg": ("text_scale", 5.5),
        "--cfg-image": ("image_scale", "0: 2.5, 1: 1"),
        "--context-strength": ("context_strength", 1.5),
        "--eta": ("eta", 0.5),
        "--fs": ("fs", 20),
        "--frames": ("frames", 5),
        "--fit": ("fit", "pad"),
        "--negative": ("negative", "dark"),
        "--fps": ("fps", 12.0),
        "--rescale": ("guidance_rescale", 0.3),
        "--reference-weight": ("reference_weights", 0.5),
        "--spacing": ("spacing", "uniform"),
        "--start-step": ("start_step", 940),
        "--strength": ("strength", 0.9),
    }
    words = [word for option, (_, value) in options.items() for word in (option, str(value))]
    model = ["-m", str(model_of(ANIMATE)), "--variant", "dynamicrafter-1024", "--device", "cpu", "--dtype", "bf16"]
    files = ["--mask", "mask.png", "--reference", "photo.png", "--negative-image", "mask.png", "-o", "clip.gif"]
    command = ["animate", "photo.png", "a cat", *model, *words, "--size", "32x20", *files]
    assert main(command) == 0
    settings = read_settings("clip.gif")
    expected = {name: value for name, value in options.values()} | {"width": 32, "height": 20, "dtype": "bfloat16"}
    expected["reference_weights"] = [0.5]
    assert {name: settings[name] for name in expected} == expected
    assert settings["variant"] == "dynamicrafter_1024"


@pytest.mark.parametrize("speed, told", [("fast", {"steps": 0.2, "inner": 2}), ("inner 3", {"steps": 1.0, "inner": 3})])
def test_speed_reaches_the_run(model_of: ModelOf, spy: Spy, folder: Path, speed: str, told: dict[str, float]) -> None:
    command = ["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE)), "--steps", "6", "--speed", speed]
    assert main([*command, "-o", "clip.gif"]) == 0
    assert read_settings("clip.gif")["speed"] == told
    assert main([*command[:-1], "quick", "-o", "no.gif"]) == 2


def test_quiet_says_nothing(model_of: ModelOf, spy: Spy, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE)), "--steps", "1", "--frames", "4"]
    assert main([*command, "-o", "a.gif"]) == 0
    assert "note: 4 frames" in capsys.readouterr().err
    assert main([*command, "-o", "a.gif", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_a_bar_with_the_time_left(
    model_of: ModelOf, spy: Spy, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE)), "--steps", "3"]) == 0
    bars = capsys.readouterr().err
    assert "denoising: 100%" in bars and "3/3 [00:0" in bars and "<00:00" in bars


def test_convert_and_inspect(model_of: ModelOf, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(model_of(ANIMATE)), "half.safetensors", "--dtype", "bf16", "--layout", "pruned"]) == 0
    assert "half.safetensors: " in capsys.readouterr().out
    checkpoint = load_checkpoint("half.safetensors")
    assert checkpoint.parts == ("unet", "autoencoder", "projector")
    assert checkpoint.state_dict("unet")["input_blocks.0.0.weight"].dtype == torch.bfloat16
    assert main(["inspect", "half.safetensors"]) == 0
    told = capsys.readouterr().out
    assert "DynamiCrafter 512" in told and "bfloat16" in told and "Metadata:" in told
    assert main(["inspect", "half.safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == ANIMATE


def test_help_has_examples_and_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "examples:\n  dynamicrafter animate photo.jpg" in capsys.readouterr().out
    for command in ("animate", "interpolate", "loop", "generate", "convert", "inspect", "train"):
        assert main([command, "--help"]) == 0
        assert f"usage: dynamicrafter {command} " in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dynamicrafter {dynamicrafter_core.__version__}\n"


def test_python_dash_m_is_the_same_command() -> None:
    root = Path(dynamicrafter_core.__file__).parents[1]
    command = [sys.executable, "-m", "dynamicrafter_core", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, cwd=root).stdout.startswith("dynamicrafter ")


# --- what it refuses --------------------------------------------------------------------------------------------------


def refused(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that must fail: exit code 2, one sentence on stderr, nothing on stdout, nothing written."""
    before = listing(folder)
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("dynamicrafter") and said.err.count("\n") == 1, said
    assert "Traceback" not in said.err
    assert listing(folder) == before
    return said.err


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch was-here",)


def wrong_file(folder: Path, model: Path) -> Path:
    save_file({"lora_unet_down.lora_up.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    return folder / "model.safetensors"


def truncated_safetensors(folder: Path, model: Path) -> Path:
    (folder / "model.safetensors").write_bytes(model.read_bytes()[:1_000_000])
    return folder / "model.safetensors"


def truncated_ckpt(folder: Path, model: Path) -> Path:
    torch.save({"state_dict": {"a": torch.zeros(100_000)}}, folder / "model.ckpt")
    (folder / "model.ckpt").write_bytes((folder / "model.ckpt").read_bytes()[:200_000])
    return folder / "model.ckpt"


def pickle_with_code(folder: Path, model: Path) -> Path:
    torch.save({"state_dict": {"a": torch.zeros(1)}, "x": Evil()}, folder / "model.ckpt")
    return folder / "model.ckpt"


def old_pickle_with_code(folder: Path, model: Path) -> Path:
    (folder / "model.ckpt").write_bytes(pickle.dumps({"state_dict": Evil()}))
    return folder / "model.ckpt"


def text_named_safetensors(folder: Path, model: Path) -> Path:
    (folder / "model.safetensors").write_text("Not found. Please log in.")
    return folder / "model.safetensors"


def image_as_model(folder: Path, model: Path) -> Path:
    return folder / "photo.png"


def missing_file(folder: Path, model: Path) -> Path:
    return folder / "nowhere.ckpt"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (wrong_file, "LoRA"),
        (truncated_safetensors, "cut short"),
        (truncated_ckpt, "cut short"),
        (pickle_with_code, "system"),
        (old_pickle_with_code, "refused|cut short or damaged"),
        (text_named_safetensors, "text file"),
        (image_as_model, "is not a checkpoint"),
        (missing_file, "does not exist"),
    ],
)
def test_a_file_that_is_no_model_is_refused(
    model_of: ModelOf,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path, Path], Path],
    named: str,
) -> None:
    path = make(folder, model_of(ANIMATE))
    sentence = refused(["animate", "photo.png", "a cat", "-m", str(path)], folder, capsys)
    assert path.name in sentence and re.search(named, sentence)
    assert refused(["convert", str(path), "out.safetensors"], folder, capsys) == sentence
    assert not (folder / "was-here").exists()


def test_a_model_for_one_image_refuses_two(model_of: ModelOf, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["interpolate", "photo.png", "photo.png", "a cat", "-m", str(model_of(ANIMATE))]
    sentence = refused(words, folder, capsys)
    assert ANIMATE in sentence and "cannot interpolate" in sentence and INTERPOLATE in sentence


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--size", "25x16"], "25x16"),
        (["--size", "0x16"], "0"),
        (["--size", "large"], "'large'"),
        (["--frames", "0"], "frames is 0"),
        (["--steps", "0"], "steps is 0"),
        (["--steps", "1001"], "steps is 1001"),
        (["--steps", "ten"], "'ten'"),
        (["--cfg", "nan"], "nan"),
        (["--cfg-image", "inf"], "inf"),
        (["--eta", "2"], "eta is 2"),
        (["--seed", "-1"], "seed is -1"),
        (["--variant", "dynamicrafter_2048"], "dynamicrafter_2048"),
        (["--device", "toaster"], "'toaster'"),
        (["--dtype", "fp64"], "'fp64'"),
        (["--fit", "tile"], "'tile'"),
        (["--mask", "nothing.png"], "nothing.png"),
        (["--initial-noise", "photo.png"], "photo.png"),
        (["--extra", "nothing.ckpt"], "nothing.ckpt"),
        (["-o", "clip.avi"], ".avi"),
        (["-o", "missing/clip.mp4"], "missing"),
        (["-o", "photo.png/clip.mp4"], "photo.png"),
        (["-o", "/proc/clip.mp4"], "/proc/clip.mp4"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_a_bad_option_is_refused_with_its_value(
    model_of: ModelOf, folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    sentence = refused(["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE)), *words], folder, capsys)
    assert named in sentence


@pytest.mark.parametrize("name", ["nothing.png", "text.png", "short.png"])
def test_an_image_that_cannot_be_read_is_refused(
    model_of: ModelOf, folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / "text.png").write_text("hello")
    (folder / "short.png").write_bytes((folder / "photo.png").read_bytes()[:3000])
    assert name in refused(["animate", name, "a cat", "-m", str(model_of(ANIMATE))], folder, capsys)


def test_no_command_or_an_unknown_one_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "COMMAND" in refused([], folder, capsys)
    assert "'dance'" in refused(["dance"], folder, capsys)
    assert "IMAGE, PROMPT" in refused(["animate"], folder, capsys)


def test_a_missing_codec_is_known_before_the_work(
    model_of: ModelOf, spy: Spy, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamicrafter_core.media.video.H264", "libx264_that_is_not_there")
    sentence = refused(["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE))], folder, capsys)
    assert "libx264_that_is_not_there" in sentence and "gif" in sentence
    assert not spy.calls


@pytest.mark.skipif(os.name != "posix", reason="file size limits are a thing of POSIX")
@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.png", "clip"])
def test_a_disk_that_fills_up_while_writing_leaves_nothing(
    model_of: ModelOf, spy: Spy, folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    import resource

    spy.answer = lambda out: out
    command = ["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE)), "--steps", "1", "-o", name]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # bytes: write(2) really fails
    try:
        sentence = refused(command, folder, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{name} cannot be written (file too large)" in sentence


def test_inspect_tells_what_it_can_of_a_file_that_does_not_load(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = wrong_file(folder, folder)
    assert main(["inspect", str(path)]) == 2
    said = capsys.readouterr()
    assert "1 tensors" in said.out and "LoRA" in said.err and said.err.count("\n") == 1


def test_the_built_in_model_is_named_while_it_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamicrafter_core.pipeline.pipeline.EMBEDDED", folder)
    assert "embedded" in refused(["animate", "photo.png", "a cat"], folder, capsys)


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_ctrl_c_while_denoising_exits_130_and_leaves_nothing(
    model_of: ModelOf, spy: Spy, folder: Path, capsys: pytest.CaptureFixture[str], ctrl_c: Callable[[], None]
) -> None:
    def interrupt(out: torch.Tensor) -> torch.Tensor:
        ctrl_c()
        return out

    spy.answer = interrupt
    before = listing(folder)
    assert main(["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE)), "--steps", "5"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert listing(folder) == before


@pytest.mark.parametrize("name", ["clip.mp4", "clip.gif", "clip.png", "clip"])
def test_ctrl_c_while_writing_leaves_the_file_that_stood_there(
    model_of: ModelOf, spy: Spy, folder: Path, monkeypatch: pytest.MonkeyPatch, ctrl_c: Callable[[], None], name: str
) -> None:
    command = ["animate", "photo.png", "a cat", "-m", str(model_of(ANIMATE)), "--steps", "1", "-o", name]
    assert main([*command, "--seed", "1"]) == 0
    before = listing(folder)
    write = saving._WRITERS[Path(name).suffix]

    def interrupted(*arguments: Any) -> None:
        write(*arguments)
        ctrl_c()

    monkeypatch.setitem(saving._WRITERS, Path(name).suffix, interrupted)
    assert main([*command, "--seed", "2"]) == 130
    assert listing(folder) == before
    assert read_settings(name)["seed"] == 1
