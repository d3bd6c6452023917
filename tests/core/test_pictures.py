"""Real pictures become clips whose motion is known; what is held out stays out of training. The pictures here are drawn."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from training_recipes import SMALL, small_recipe

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.training import picture_files
from dynamicrafter_core.training.clips import ProceduralClips
from dynamicrafter_core.training.fidelity import keep
from dynamicrafter_core.training.motion_judge import see_motion
from dynamicrafter_core.training.motions import RATES, rates_of
from dynamicrafter_core.training.picture_clips import CAMERA, MIXTURES, FilmedClips, PictureClips
from dynamicrafter_core.training.picture_files import PictureFile, find_picture_files, is_held_out
from dynamicrafter_core.training.picture_pack import make_pack, open_pack, read_pack
from dynamicrafter_core.training.sources import make_source
from dynamicrafter_core.training.trainer import Trainer


def drawn(seed: int, height: int = 400, width: int = 480) -> np.ndarray:
    """Blots of many sizes."""
    dice = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(dice.integers(0, 256, (n, n, 3), np.uint8)).resize((width, height), Image.BICUBIC))
        for n in (4, 9, 20)
    ]
    return np.mean(layers, 0).astype(np.uint8)


def name_of(held_out: bool, number: int) -> str:
    return [f"drawn{n}-1.webp" for n in range(1000) if is_held_out(f"drawn{n}-1.webp") is held_out][number]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[PictureFile]:
    """Three stills and a clip for training, a still held out, and the first still again, among those held out."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        Image.fromarray(drawn(number)).save(folder / name_of(False, number))
    shots = [Image.fromarray(np.roll(drawn(7, 160, 160), 3 * step, 1)) for step in range(20)]
    shots[0].save(folder / name_of(False, 3), save_all=True, append_images=shots[1:], duration=50)
    Image.fromarray(drawn(9)).save(folder / name_of(True, 0))
    Image.fromarray(drawn(0)).save(folder / name_of(True, 1))
    return [PictureFile(path, "A title", "drawn 1", "MIT") for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def pack(files: list[PictureFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "pictures.safetensors"
    make_pack(path, files)
    return path


@pytest.fixture(scope="module")
def source(pack: Path) -> PictureClips:
    return PictureClips(32, 32, 6, fs=(4, 8), pack=pack)


def test_the_split_is_by_the_templates_name() -> None:
    assert is_held_out("name-1.webp") == is_held_out("name-2.webp") == is_held_out("name-3.png")
    share = sum(is_held_out(f"name{number}-1.webp") for number in range(1000)) / 1000
    assert 0.1 < share < 0.2


def test_packed_pictures_say_where_they_come_from(pack: Path, files: list[PictureFile]) -> None:
    pictures = {picture.packed.name: picture for picture in read_pack(pack)}
    clip, still = pictures[name_of(False, 3) + "#clip"], pictures[name_of(False, 1)]
    assert clip.frames.shape == (20, 3, 128, 128) and clip.packed.rate == 20
    assert still.frames.shape == (1, 3, 320, 384) and still.packed.rate == 0
    assert still.packed.source == "drawn 1, MIT" and still.packed.title == "A title"
    assert still.packed.checksum == next(f for f in files if f.path.name == still.packed.name).checksum()
    wanted = np.asarray(Image.fromarray(drawn(1)).resize((384, 320), Image.LANCZOS))
    assert np.abs(still.frames[0].permute(1, 2, 0).numpy().astype(int) - wanted).mean() < 3


def test_a_training_picture_that_looks_like_a_held_out_one_is_left_out(pack: Path) -> None:
    names = [picture.packed.name for picture in read_pack(pack)]
    assert name_of(True, 1) in names and name_of(False, 0) not in names
    assert name_of(False, 1) in names


def test_the_pack_is_made_where_it_is_missing(
    files: list[PictureFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamicrafter_core.training.picture_pack.find_picture_files", lambda: files)
    made = open_pack(tmp_path / "new" / "pack.safetensors")
    assert [a.packed for a in made] == [a.packed for a in open_pack(tmp_path / "new" / "pack.safetensors")]


def test_what_is_no_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pack.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a file of packed pictures"):
        read_pack(tmp_path / "pack.safetensors")


def test_without_installed_packages_it_is_said_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_files, "distributions", lambda: [])
    with pytest.raises(InputError, match="pip install comfyui-workflow-templates"):
        find_picture_files()


def test_installed_pictures_are_found_with_title_and_licence() -> None:
    pytest.importorskip("comfyui_workflow_templates_core", reason="ComfyUI's template packages are not installed")
    found = find_picture_files()
    assert len(found) > 400 and {file.licence for file in found} == {"MIT"}
    assert sum(bool(file.title) for file in found) > len(found) / 2
    assert sum(file.held_out for file in found) >= 60
    assert all(file.path.is_file() for file in found)
    assert len({file.path.name for file in found}) == len(found)


def test_a_clip_is_made_of_its_split_and_number_alone(source: PictureClips) -> None:
    alone, among = source("train", [5]), source("train", [4, 5, 6])
    assert torch.equal(alone.pixels[0], among.pixels[1]) and alone.captions[0] == among.captions[1]


def test_a_stage_may_begin_with_later_clips(source: PictureClips, pack: Path) -> None:
    later = PictureClips(32, 32, 6, fs=(4, 8), pack=pack, first=3)
    assert torch.equal(later("train", [2]).pixels, source("train", [5]).pixels)


def test_a_window_shows_the_middle_of_the_whole_at_its_speed(source: PictureClips, pack: Path) -> None:
    windows = PictureClips(16, 16, 6, fs=(4, 8), pack=pack, window_of=32)
    whole, middle = (each("held-out", range(24)) for each in (source, windows))
    assert whole.captions == middle.captions
    assert torch.allclose(middle.pixels, whole.pixels[..., 8:24, 8:24], atol=1e-4)
    assert isinstance(middle, FilmedClips)
    assert min(one.psnr for one in keep(middle.pixels, middle)) > 40
    real = [PictureClips(side, side, 6, real=1.0, pack=pack, window_of=32)("train", [3]).pixels for side in (32, 16)]
    assert torch.equal(real[1], real[0][..., 8:24, 8:24])


def test_training_never_shows_what_is_held_out(source: PictureClips) -> None:
    held = source.stills[True]
    source("held-out", range(4))
    assert {picture.packed.name for picture in held} == {name_of(True, 0), name_of(True, 1)}
    assert not {p.packed.name for p in held} & {p.packed.name for p in (*source.stills[False], *source.clips)}


@pytest.mark.parametrize("motion", [*CAMERA, *MIXTURES])
def test_what_comes_into_view_is_in_the_still(source: PictureClips, motion: str) -> None:
    """Black beyond the still's border: were the border ever in view, a frame would show it."""
    clips = source("held-out", range(4), motions=[motion] * 4, fs=[4] * 4)
    for shot, extent in zip(clips.shots, clips.extents.tolist(), strict=True):
        white = torch.nn.functional.pad(torch.ones_like(shot.still), (9, 9, 9, 9))
        moved = replace(shot, still=white, middle=(shot.middle[0] + 9, shot.middle[1] + 9))
        rates = rates_of([motion])[0] * torch.tensor([float(not name.startswith(("dark", "light"))) for name in RATES])
        assert moved.film(rates, torch.linspace(0, extent, 6), 32, 32).min() > 0.9


@pytest.mark.slow
def test_camera_motion_is_seen_as_it_was_filmed(source: PictureClips) -> None:
    names = [*CAMERA, *MIXTURES]
    clips = source("held-out", range(len(names)), motions=names, fs=[4] * len(names))
    assert isinstance(clips, FilmedClips)
    seen = see_motion(clips.pixels, motions=names)
    assert sum(one.motion == motion for one, motion in zip(seen, names, strict=True)) >= len(names) - 1


def test_a_mixture_says_both_and_moves_both_ways(source: PictureClips, pack: Path) -> None:
    clips = source("held-out", range(12), motions=["pan_left+zoom_in"] * 12, fs=[4] * 12)
    assert all("left" in caption and " and " in caption for caption in clips.captions)
    with pytest.raises(InputError, match="two of them"):
        PictureClips(32, 32, 6, motions=["pan_left+zoom_in+still"], pack=pack)


def test_real_clips_are_captioned_by_their_camera(pack: Path) -> None:
    """The clip rolls to the right, as if the camera panned to the left."""
    clips = PictureClips(32, 32, 6, real=1.0, fs=(4, 32), pack=pack)("train", range(8))
    assert sum("left" in caption for caption in clips.captions) >= 6
    assert set(clips.fs.tolist()) <= {20, 10}


def test_a_mixture_of_sources_keeps_each_ones_clips(pack: Path) -> None:
    data: dict[str, Any] = {
        "kind": "mixed",
        **{"height": 32, "width": 32, "frames": 4, "fs": [4, 8]},
        "parts": [
            {"share": 3, "kind": "pictures", "pack": str(pack)},
            {"share": 1, "kind": "procedural", "strengths": [2]},
        ],
    }
    source = make_source(data, 0, torch.device("cpu"))
    clips = source("train", range(40))
    procedural = clips.strength == 2
    assert 4 <= int(procedural.sum()) <= 18
    row = int(procedural.nonzero()[0])
    alone = ProceduralClips(32, 32, 4, fs=(4, 8), strengths=[2])("train", [row])
    assert torch.equal(clips.pixels[row], alone.pixels[0]) and clips.captions[row] == alone.captions[0]
    assert isinstance(source("held-out", range(2)), FilmedClips)


@pytest.mark.parametrize("parts", [None, [], [{"kind": "procedural"}]])
def test_a_mixture_without_parts_or_shares_is_refused(parts: Any) -> None:
    with pytest.raises(InputError, match="share"):
        make_source({"kind": "mixed", "parts": parts}, 0, torch.device("cpu"))


@pytest.mark.slow
def test_a_model_is_trained_and_evaluated_on_pictures(pack: Path, tmp_path: Path) -> None:
    parts = [{"share": 1, "kind": "pictures", "pack": str(pack)}, {"share": 1, "kind": "procedural"}]
    data = {"kind": "mixed", "height": 16, "width": 16, "frames": 4, "fs": [2, 4], "parts": parts}
    stages = [stage for stage in SMALL["stages"] if stage["name"] in ("autoencoder", "joint")]
    assert Trainer(small_recipe(data=data, stages=stages), tmp_path, "cpu").run() is not None
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    figures = [entry for entry in entries if entry["kind"] == "evaluation"]
    assert [entry["stage"] for entry in figures] == ["autoencoder", "joint"]
    assert {"loss_999", "motion", "last_psnr", "detail", "drift"} <= figures[-1].keys()
    assert 0 < figures[-1]["last_psnr"] < 30
