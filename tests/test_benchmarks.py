"""The benchmarks run, and what they say of memory and work holds; times are nobody's business here."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import repository
import torch
from torch.utils.flop_counter import FlopCounterMode

from dynamicrafter_core import UNetConfig, VideoUNet
from dynamicrafter_core.models.sketch import SketchEncoder


def has_history() -> bool:
    asked = ["git", "rev-parse", "--verify", "HEAD"]
    return bool(shutil.which("git")) and subprocess.run(asked, cwd=repository.ROOT, capture_output=True).returncode == 0


def flops(branches: int) -> int:
    """Of one UNet call at the size of DynamiCrafter 256, counted without computing."""
    config = UNetConfig()
    unet = VideoUNet(config, device="meta")
    with torch.device("meta"):
        x, t, fs = torch.empty(1, config.in_channels, 16, 32, 32), torch.empty(1), torch.empty(1)
        text, image = torch.empty(branches, 77, config.context_dim), torch.empty(branches, 16, 16, config.context_dim)
    with FlopCounterMode(display=False) as counter:
        unet(x, t, text, image, fs)
    return counter.get_total_flops()


def test_three_guidance_branches_cost_less_than_three_forwards():
    assert 2.5 < flops(3) / flops(1) < 2.9


@pytest.mark.slow
def test_a_sketch_encoder_adds_a_fifth_to_the_work():
    """As the help of DynamiCrafter Sketch says: at 512 x 320, of all released models."""
    unet, encoder = VideoUNet(UNetConfig(), device="meta"), SketchEncoder(device="meta")
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        x, t, text = torch.empty(1, 8, 16, 40, 64), torch.empty(1), torch.empty(2, 77, 1024)
        unet(x, t, text, torch.empty(2, 16, 16, 1024), torch.empty(1))
        alone = counter.get_total_flops()
        encoder(x[:, :4], torch.empty(1, 1, 16, 320, 512), t, text)
        assert 1.19 < counter.get_total_flops() / alone < 1.22


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_loading_holds_a_checkpoint_once():
    command = [sys.executable, "-m", "benchmarks", "--parts", "--dtype", "fp32", "--load", "thin"]
    told = subprocess.run(command, cwd=repository.ROOT, check=True, capture_output=True, text=True).stdout
    ours, plain = (float(share) for share in re.findall(r"([\d.]+) x the file", told))
    assert ours < 1.1 < plain


def test_what_does_not_fit_the_memory_is_left_out(monkeypatch):
    monkeypatch.syspath_prepend(str(repository.ROOT))  # no longer than here: the host has a module `nodes` of its own
    from benchmarks import measure, plain

    assert plain.einsum_fits(16, 1024, 5, torch.float32, torch.device("cpu"))
    monkeypatch.setattr(plain, "free_memory", lambda device: 3 * 16 * 5 * 9216**2 * 4)
    assert not plain.einsum_fits(16, 9216, 5, torch.float32, torch.device("cpu"))
    assert plain.einsum_fits(16, 9216, 5, torch.bfloat16, torch.device("cpu"))

    def too_large():
        raise AssertionError

    seconds, what, none = measure.beside(lambda: None, "einsum", too_large, False, 1)
    assert seconds >= 0 and what == "einsum: does not fit in memory" and none is None


@pytest.mark.parametrize(("long", "runs"), [(0.0, 2), (1e9, 3)])
def test_the_first_turn_warms_up_and_counts_only_where_it_is_long(monkeypatch, long, runs):
    monkeypatch.syspath_prepend(str(repository.ROOT))
    from benchmarks import measure

    monkeypatch.setattr(measure, "LONG", long)
    done = []
    assert len(measure.medians([lambda: done.append("a"), lambda: done.append("b")], 2)) == 2
    assert done == ["a", "b"] * runs


@pytest.mark.slow
def test_every_part_is_measured_beside_what_it_replaced():
    command = [sys.executable, "-m", "benchmarks", "--dtype", "fp32", "--repeat", "1", "--load", "none"]
    told = subprocess.run(command, cwd=repository.ROOT, check=True, capture_output=True, text=True).stdout
    beside = {line.split(" | ")[0].strip("| "): line.split(" | ")[6] for line in told.splitlines() if " x |" in line}
    parts = ("UNet forward", "guided step, 2", "guided step, 3", "attention over pixels", "attention over frames")
    parts += ("attention to text", "temporal convolutions", "VAE encode", "VAE decode")
    for part in parts:
        assert any(what.startswith(part) and against for what, against in beside.items()), part


def test_a_profile_holds_every_operation_of_the_forward(monkeypatch):
    monkeypatch.syspath_prepend(str(repository.ROOT))
    from benchmarks import profile
    from benchmarks.models import flops

    with torch.no_grad():
        seen = profile.profile("tiny", torch.float32, torch.device("cpu"))
    counted = sum(work.flops for work in seen.work.values())
    assert counted == pytest.approx(flops("tiny", 1, torch.float32), rel=1e-6)
    attentions = {"attention over pixels", "attention over frames", "attention to text and image"}
    assert attentions | {"linear layers", "spatial convolutions", "temporal convolutions", "norms"} <= set(seen.work)
    assert {shape[-2] for shape in seen.work["attention over pixels"].shapes} == {
        256,
        64,
        16,
        4,
    }  # 16x16, and halved thrice
    rows = profile.table(seen, 1e12).splitlines()
    assert rows[-1].startswith("| all |") and "100%" in rows[-1]


@pytest.mark.slow
@pytest.mark.skipif(not has_history(), reason="earlier versions are in git's history alone")
def test_an_earlier_version_is_measured_beside_this_one():
    command = [sys.executable, "-m", "benchmarks.against", "HEAD", "--repeat", "1"]
    told = subprocess.run(command, cwd=repository.ROOT, check=True, capture_output=True, text=True).stdout
    rows = dict(re.findall(r"^\| (forward|guided step, \d branches) \| [\d.]+ \| (\S+) \|$", told, re.M))
    assert list(rows) == ["forward", "guided step, 2 branches", "guided step, 3 branches"]
    assert all(float(difference) < 1e-4 for difference in rows.values())
    unknown = subprocess.run([*command[:3], "no-such-revision"], cwd=repository.ROOT, capture_output=True, text=True)
    assert unknown.returncode == 1
    assert "There is no revision 'no-such-revision' here" in unknown.stderr


@pytest.mark.slow
def test_behaviour_is_measured_on_real_pictures(tmp_path):
    """In short: two pictures of each kind and one step; the judge is right, whatever the model does."""
    pytest.importorskip("comfyui_workflow_templates_core", reason="ComfyUI's template packages are not installed")
    from dynamicrafter_core.training.picture_files import find_picture_files
    from dynamicrafter_core.training.picture_pack import make_pack

    files = find_picture_files()
    held_out = [file for file in files if file.held_out][:4]
    trained = [file for file in files if not file.held_out][:2]
    make_pack(tmp_path / "pictures.safetensors", [*held_out, *trained])
    command = [sys.executable, "-m", "benchmarks.behaviour", "--only", "pictures", "--count", "2", "--steps", "1"]
    command += ["--pictures", str(tmp_path / "pictures.safetensors"), "--json", str(tmp_path / "rows.json")]
    done = subprocess.run(command, cwd=repository.ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    rows = {row["what"].strip(): row for row in json.loads((tmp_path / "rows.json").read_text())}
    judge = ("the judge of pictures, on true clips: motion", "true clips: last frame, worst, dB")
    assert all(rows[what]["right"] for what in judge)
    assert rows["the first frame, held: last frame, median, dB"]["right"]
    assert rows["pictures: last frame to what the first says, median, dB"]["wanted"] == ">= 25"
    assert ("NO" in done.stdout) == (done.returncode == 1)


@pytest.mark.slow
def test_the_gpu_check_runs_on_a_cpu_as_it_would_on_a_gpu(capsys: pytest.CaptureFixture[str], host_path: Path) -> None:
    from benchmarks import gpu

    assert gpu.main(["--rehearse", "--minutes", "30", "--comfyui", str(host_path)]) == 0
    said = capsys.readouterr().out
    rows = [line for line in said.splitlines() if line.startswith("| ")]
    assert {row.split(" | ")[0].strip("| ") for row in rows[2:]} == {
        "exactness",
        "variants",
        "steps",
        "clips",
        "commands",
        "comfyui",
    }
    assert "left out" not in said and "**no**" not in said
    assert sum("| yes |" in row for row in rows) > 40


def test_a_section_of_the_gpu_check_that_fails_does_not_stop_the_others() -> None:
    from benchmarks import gpu

    def broken(check: gpu.Check):
        yield gpu.Line("broken", "first", "1", True)
        raise RuntimeError("no such kernel\nwith a long trace")

    check = gpu.Check(torch.device("cpu"), True, float("inf"))
    assert gpu.run(broken, check)[1:] == [gpu.Line("broken", "the rest", "RuntimeError: no such kernel", False)]
    over = gpu.Check(torch.device("cpu"), True, 0.0)
    assert gpu.run(broken, over) == [gpu.Line("broken", "all of it", "left out: the time is over")]


def test_without_cuda_the_gpu_check_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "There is no CUDA device here; --rehearse" in capsys.readouterr().err
