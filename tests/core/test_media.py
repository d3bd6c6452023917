"""Writing clips: every kind of file is read back, and whatever goes wrong leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import repository
import torch
from PIL import Image

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media import frames, saving
from dynamicrafter_core.media.frames import read_clip, read_rate
from dynamicrafter_core.media.saving import check_target, read_settings, save_clip

SETTINGS = {
    "prompt": "a cat, 猫 \"in\" 'quotes'\nand lines",
    "seed": 123,
    "size": [96, 64],
    "cfg": 7.5,
    "negative": None,
}
TARGETS = ["clip.mp4", "clip.gif", "clip.png", "clip"]


def moving(count: int = 5, height: int = 64, width: int = 96) -> np.ndarray:
    """Smooth colours, and a white bar that moves from frame to frame."""
    y, x = np.mgrid[0:height, 0:width]
    frames = np.stack([np.stack([x * 2, y * 3, np.full_like(x, 40)], -1)] * count).clip(0, 255).astype(np.uint8)
    for index in range(count):
        frames[index, :, 8 * index : 8 * index + 8] = 255
    return frames


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def left_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_mp4_is_h264_of_the_right_length_speed_and_colours(tmp_path: Path) -> None:
    frames = moving()
    save_clip(torch.from_numpy(frames), tmp_path / "clip.mp4", 8)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert stream.frames == 5 and stream.average_rate == 8
        assert float(stream.duration * stream.time_base) == pytest.approx(5 / 8)
    for decoded, frame in zip(decode(tmp_path / "clip.mp4"), frames, strict=True):
        assert np.abs(decoded.astype(int) - frame).mean() < 4


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)])
def test_mp4_keeps_plain_colours(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    save_clip(np.full((2, 64, 64, 3), colour, np.uint8), tmp_path / "plain.mp4", 8)
    assert np.abs(decode(tmp_path / "plain.mp4")[0].astype(int) - colour).max() <= 3


ENCODE = """
import sys
import numpy as np
from PIL import Image
from dynamicrafter_core.media.saving import save_clip

scene = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)).resize((160, 160))
frames = [scene.crop((k, k, 160 - k, 160 - k)).resize((64, 64)) for k in range(40)]
save_clip(np.stack([np.asarray(frame) for frame in frames]), sys.argv[1], 8)
"""


def test_the_same_frames_are_the_same_file_whatever_lay_in_memory(tmp_path: Path) -> None:
    for filler in ("1", "85", "170"):  # glibc fills freed and fresh memory with it
        command = [sys.executable, "-c", ENCODE, str(tmp_path / f"{filler}.mp4")]
        subprocess.run(command, cwd=repository.ROOT, env={**os.environ, "MALLOC_PERTURB_": filler}, check=True)
    assert len({path.read_bytes() for path in tmp_path.glob("*.mp4")}) == 1


@pytest.mark.parametrize(("height", "width"), [(63, 95), (64, 95), (1, 1)])
def test_mp4_of_odd_size_repeats_the_last_row_and_column(tmp_path: Path, height: int, width: int) -> None:
    save_clip(moving(2, height, width), tmp_path / "odd.mp4", 8)
    assert decode(tmp_path / "odd.mp4")[1].shape == (height + height % 2, width + width % 2, 3)


@pytest.mark.parametrize("fps", [8, 10, 12.5, 24000 / 1001])
def test_a_gif_keeps_its_speed_and_its_colours(tmp_path: Path, fps: float) -> None:
    frames = moving(12)
    save_clip(frames, tmp_path / "clip.gif", fps)
    with Image.open(tmp_path / "clip.gif") as gif:
        assert gif.n_frames == 12 and gif.info["loop"] == 0
        milliseconds = 0
        for index, frame in enumerate(frames):
            gif.seek(index)
            milliseconds += gif.info["duration"]
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frame).mean() < 8
    assert milliseconds == pytest.approx(12_000 / fps, abs=5)


def test_still_places_of_a_gif_do_not_flicker(tmp_path: Path) -> None:
    save_clip(moving(6), tmp_path / "clip.gif", 8)
    with Image.open(tmp_path / "clip.gif") as gif:
        still = []
        for index in range(6):
            gif.seek(index)
            still.append(np.asarray(gif.convert("RGB"))[0, 60:].tolist())
    assert all(row == still[0] for row in still)


def test_png_frames_are_exact_and_sorted(tmp_path: Path) -> None:
    frames = moving(11)
    save_clip(frames, tmp_path / "frames", 8)
    names = left_in(tmp_path / "frames")
    assert names[0] == "frame_0001.png" and len(names) == 11
    for name, frame in zip(names, frames, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "frames" / name)), frame)


def test_a_shorter_clip_replaces_all_frames_of_a_longer_one(tmp_path: Path) -> None:
    save_clip(moving(4), tmp_path / "frames", 8)
    save_clip(moving(2), tmp_path / "frames", 8)
    assert left_in(tmp_path / "frames") == ["frame_0001.png", "frame_0002.png"]
    assert left_in(tmp_path) == ["frames"]


def test_a_contact_sheet_shows_every_frame(tmp_path: Path) -> None:
    frames = np.stack([np.full((32, 48, 3), 20 * index, np.uint8) for index in range(1, 8)])
    save_clip(frames, tmp_path / "sheet.png", 8)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (3 * 36 - 4, 3 * 52 - 4, 3)
    assert [sheet[36 * (i // 3) + 16, 52 * (i % 3) + 24, 0] for i in range(7)] == [20 * i for i in range(1, 8)]


def test_a_contact_sheet_of_large_frames_is_scaled_down(tmp_path: Path) -> None:
    save_clip(np.zeros((4, 576, 2048, 3), np.uint8), tmp_path / "sheet.png", 8)
    assert Image.open(tmp_path / "sheet.png").size == (2052, 580)


@pytest.mark.parametrize("name", TARGETS)
def test_settings_can_be_read_back_from_every_kind(tmp_path: Path, name: str) -> None:
    save_clip(moving(), tmp_path / name, 8, SETTINGS)
    assert read_settings(tmp_path / name) == SETTINGS


def test_long_settings_survive(tmp_path: Path) -> None:
    settings = {"prompt": "word " * 2000}
    for name in TARGETS:
        save_clip(moving(), tmp_path / name, 8, settings)
        assert read_settings(tmp_path / name) == settings


def test_files_of_others_hold_no_settings(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "other.png")
    (tmp_path / "other.mp4").write_bytes(b"no video")
    (tmp_path / "empty").mkdir()
    for name in ("other.png", "other.mp4", "empty", "missing.gif"):
        with pytest.raises(InputError, match=name):
            read_settings(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("clip.avi", "avi"),
        ("missing/clip.mp4", "does not exist"),
        ("file.txt/clip.mp4", "file.txt is a file"),
        ("folder.gif", "is a folder"),
        ("plain", "is a file"),
        ("mine", "letters.txt"),
        ("/proc/clip.gif", "cannot be written"),
    ],
)
def test_a_target_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, named: str) -> None:
    (tmp_path / "file.txt").touch()
    (tmp_path / "plain").touch()
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letters.txt").touch()
    before = left_in(tmp_path)
    for call in (check_target, lambda path: save_clip(moving(), path, 8)):
        with pytest.raises(InputError) as refused:
            call(tmp_path / name)
        assert named in str(refused.value) and "\n" not in str(refused.value)
    assert left_in(tmp_path) == before


def test_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    for name in TARGETS:
        check_target(tmp_path / name)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("frames", [moving()[0], moving().astype(np.float32), moving()[:0], moving()[..., :2]])
def test_what_are_no_frames_is_refused(tmp_path: Path, frames: np.ndarray) -> None:
    with pytest.raises(InputError, match="frames"):
        save_clip(frames, tmp_path / "clip.gif", 8)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), 1e6])
def test_an_impossible_speed_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(InputError, match="fps"):
        save_clip(moving(), tmp_path / "clip.gif", fps)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError, OSError(28, "No space left on device")])
def test_an_interruption_leaves_what_stood_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, interruption: type[BaseException] | OSError
) -> None:
    save_clip(moving(), tmp_path / name, 8, {"take": 1})
    write = saving._WRITERS[Path(name).suffix]

    def interrupted(path: Path, *rest: object) -> None:
        write(path, *rest)  # type: ignore[arg-type]
        raise interruption

    monkeypatch.setitem(saving._WRITERS, Path(name).suffix, interrupted)
    with pytest.raises((KeyboardInterrupt, RuntimeError, InputError)):
        save_clip(moving(), tmp_path / name, 8, {"take": 2})
    assert left_in(tmp_path) == [name]
    assert read_settings(tmp_path / name) == {"take": 1}


@pytest.mark.skipif(os.name != "posix", reason="file size limits are a thing of POSIX")
@pytest.mark.parametrize("name", TARGETS)
def test_a_disk_that_fills_up_leaves_nothing_and_a_sentence(tmp_path: Path, name: str) -> None:
    """A real failure of write(2), not a simulated one: the process may write files of 10,000 bytes."""
    script = f"""
import resource, numpy as np
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.saving import save_clip
frames = np.random.default_rng(0).integers(0, 255, (8, 64, 96, 3), np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_clip(frames, {str(tmp_path / name)!r}, 8)
except InputError as error:
    print("refused:", error)
"""
    command, root = [sys.executable, "-c", script], Path(saving.__file__).parents[2]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout
    assert answer.startswith("refused:") and name in answer and "file too large" in answer and answer.count("\n") == 1
    assert left_in(tmp_path) == []


def test_a_missing_codec_is_named_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamicrafter_core.media.video.H264", "libx264_that_is_not_there")
    with pytest.raises(InputError, match="libx264_that_is_not_there.*gif"):
        save_clip(moving(), tmp_path / "clip.mp4", 8)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="PyAV.*gif"):
        check_target(tmp_path / "clip.mp4")
    assert left_in(tmp_path) == []


def test_a_saved_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    save_clip(moving(), tmp_path / "clip.gif", 8)
    (tmp_path / "new").touch()
    assert (tmp_path / "clip.gif").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_file_that_is_broken_or_says_nonsense_holds_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Image.new("RGB", (2, 2)).save(path, comment=b'{"a":' * 10_000)
    with pytest.raises(InputError, match="holds no settings"):
        read_settings(path)
    path.with_suffix(".png").write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\2\0\0\0\0\0\0\0"
    )
    with pytest.raises(InputError, match="holds no settings"):
        read_settings(path.with_suffix(".png"))


def test_a_rate_is_asked_of_a_file_that_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="broken.mp4 cannot be decoded as a video"):
        read_rate(tmp_path / "broken.mp4")


def test_frames_that_would_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_clip(np.zeros((3, 64, 64, 3), np.uint8), tmp_path / "a.mp4", 8)
    monkeypatch.setattr(frames, "MOST_BYTES", 3 * 64 * 64 * 3)
    assert len(read_clip(tmp_path / "a.mp4")) == 3
    monkeypatch.setattr(frames, "MOST_BYTES", 3 * 64 * 64 * 3 - 1)
    with pytest.raises(InputError, match="holds more than 0 GB of pixels"):
        read_clip(tmp_path / "a.mp4")
