"""Captioned videos from folders and tar files become clips."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.saving import save_clip
from dynamicrafter_core.training import videos
from dynamicrafter_core.training.videos import VideoClips


def moving_bar(frames: int = 12, height: int = 24, width: int = 40) -> np.ndarray:
    clip = np.zeros((frames, height, width, 3), np.uint8)
    for index in range(frames):
        clip[index, :, index * 3 : index * 3 + 4] = 255
    return clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        save_clip(moving_bar(), tmp_path / f"{name}.mp4", 12)
        (tmp_path / f"{name}.txt").write_text(f"a bar, {name}\n")
    return tmp_path


def test_a_folder_of_videos_with_captions(folder: Path) -> None:
    clips = VideoClips(folder, 16, 16, 4, strides=(2, 2))("train", [0, 1])
    assert clips.pixels.shape == (2, 3, 4, 16, 16)
    assert sorted(clips.captions) == ["a bar, a", "a bar, b"]
    assert clips.fs.tolist() == [6, 6]  # twelve a second, every second taken
    bar = clips.pixels[:, 0].mean(2).argmax(2)[:, 1:]  # b t: the column that is brightest, once all of it is in sight
    assert (bar.diff(dim=1) > 0).all()


def test_a_folder_of_frames(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for index, frame in enumerate(moving_bar()):
        Image.fromarray(frame).save(tmp_path / "c" / f"{index:03}.png")
    (tmp_path / "c.txt").write_text("a bar")
    clips = VideoClips(tmp_path, 24, 40, 4, strides=(1, 1), fs_meaning="frame stride")("train", [0])
    assert clips.pixels.max() == 1 and clips.pixels.min() == -1
    assert clips.fs.tolist() == [1]


def test_a_tar_as_webdataset_writes_it_gives_the_same_clips(folder: Path, tmp_path: Path) -> None:
    plain = VideoClips(folder, 16, 16, 4)("train", [0, 1])
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "shard.tar", "w") as archive:
        for file in sorted(folder.glob("[ab].*")):
            data = file.read_bytes()
            member = tarfile.TarInfo(file.name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    clips = VideoClips(packed, 16, 16, 4)("train", [0, 1])
    assert torch.equal(clips.pixels, plain.pixels)
    assert clips.captions == plain.captions


def test_a_compressed_tar_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    """What its members' places say holds for the decompressed file alone."""
    with tarfile.open(tmp_path / "shard.tar", "w:gz") as archive:
        archive.add(folder, "videos")
    with pytest.raises(InputError, match=r"shard.tar cannot be read as an uncompressed tar file .*uncompressed\.$"):
        VideoClips(tmp_path / "shard.tar", 16, 16, 4)


def test_every_video_comes_once_before_any_comes_again(folder: Path) -> None:
    source = VideoClips(folder, 16, 16, 4)
    for turn in range(4):
        assert len(set(source("train", [2 * turn, 2 * turn + 1]).captions)) == 2


def test_a_video_shorter_than_the_clip_stands_still_at_its_end(tmp_path: Path) -> None:
    save_clip(moving_bar(3), tmp_path / "short.mp4", 8)
    (tmp_path / "short.txt").write_text("short")
    clips = VideoClips(tmp_path, 16, 16, 6)("train", [0])
    assert torch.equal(clips.pixels[:, :, -1], clips.pixels[:, :, -2])


def test_no_more_of_a_video_is_kept_than_its_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_clip(moving_bar(40, width=160), tmp_path / "long.mp4", 8)
    (tmp_path / "long.txt").write_text("long")
    fitted = []
    real = videos.fit_frame
    monkeypatch.setattr(videos, "fit_frame", lambda frame, *size: fitted.append(frame.shape) or real(frame, *size))
    clips = VideoClips(tmp_path, 16, 16, 4, strides=(2, 2))("train", range(3))
    assert len(fitted) == 3 * 4
    assert not torch.equal(clips.pixels[0], clips.pixels[1])


def test_a_video_that_says_more_than_it_holds_stands_still_at_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = videos._Video.__init__
    monkeypatch.setattr(
        videos._Video, "__init__", lambda self, file: (opened(self, file), setattr(self, "count", 16))[0]
    )
    pixels = VideoClips(folder, 16, 16, 16, strides=(1, 1))("train", [0]).pixels
    assert torch.equal(pixels[:, :, 12:], pixels[:, :, 11:12].expand_as(pixels[:, :, 12:]))
    assert not torch.equal(pixels[:, :, 10], pixels[:, :, 11])


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no captioned video"):
        VideoClips(tmp_path, 16, 16, 4)
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    (tmp_path / "broken.txt").write_text("x")
    with pytest.raises(InputError, match="broken.mp4 cannot be decoded"):
        VideoClips(tmp_path, 16, 16, 4)("train", [0])


def test_a_caption_that_is_no_text_is_refused_by_name(folder: Path) -> None:
    caption = next(folder.glob("*.txt"))
    caption.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=f"{caption.name} is not UTF-8 text"):
        VideoClips(folder, 16, 16, 4)("train", range(8))
