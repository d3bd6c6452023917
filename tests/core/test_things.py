"""Things move in front of pictures, exactly as their clips say; what is held out stays out of training. Things here are drawn."""

from pathlib import Path

import pytest
import torch
from test_pictures import files, pack  # noqa: F401  (fixtures)

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.training import thing_clips
from dynamicrafter_core.training.clips import extents_of
from dynamicrafter_core.training.fidelity import rest_of
from dynamicrafter_core.training.motion_judge import see_motion
from dynamicrafter_core.training.motions import GROWTH, MOTIONS
from dynamicrafter_core.training.sources import make_source
from dynamicrafter_core.training.thing_clips import MOVES, ThingClips
from dynamicrafter_core.training.things import FONT, Thing, find_things


def drawn_things() -> tuple[Thing, ...]:
    """Discs and bars in plain colours, some of which their names hold out."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 40), indexing="ij")
    shapes = {"disc": (x**2 + y**2 < 1).float(), "bar": (y.abs() < 0.5).float()}
    colours = {"red": (1, 0, 0), "white": (1, 1, 1), "blue": (0, 0.2, 1), "green": (0, 0.8, 0), "black": (0, 0, 0)}
    return tuple(
        Thing(f"{colour} {name}", torch.cat([torch.tensor(rgb)[:, None, None] * shape, shape[None]]))
        for colour, rgb in colours.items()
        for name, shape in shapes.items()
    )


@pytest.fixture
def source(pack: Path, monkeypatch: pytest.MonkeyPatch) -> ThingClips:  # noqa: F811
    monkeypatch.setattr(thing_clips, "find_things", lambda font: drawn_things())
    return ThingClips(32, 32, 6, fs=(4, 8), pack=str(pack))


def middle(front: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of opacities [T,H,W], in picture widths."""
    place = (torch.arange(front.shape[-1]) + 0.5) / front.shape[-1]
    total = front.sum((1, 2))
    return (front.sum(1) * place).sum(1) / total, (front.sum(2) * place).sum(1) / total


def test_a_thing_moves_as_far_as_fs_says(source: ThingClips) -> None:
    source.things[True] = [drawn_things()[0]]
    far = extents_of(torch.tensor([8]), 6)[0]
    for motion, axis, sign in (
        ("object_left", 0, -1),
        ("object_right", 0, 1),
        ("object_up", 1, -1),
        ("object_down", 1, 1),
    ):
        clips = source("held-out", range(4), motions=[motion] * 4, fs=[8] * 4)
        for front in clips.front[:, 0]:
            came = [each - each[0] for each in middle(front)]
            assert torch.allclose(came[axis], sign * far, atol=0.01)
            assert torch.allclose(came[1 - axis], torch.zeros(6), atol=0.01)


@pytest.mark.parametrize(("motion", "sign"), [("grow", 1), ("shrink", -1)])
def test_a_thing_grows_by_its_rate(source: ThingClips, motion: str, sign: int) -> None:
    clips = source("held-out", range(6), motions=[motion] * 6, fs=[8] * 6)
    area = clips.front[:, 0].sum((2, 3))
    whole = clips.front[:, 0].amax((1, 2, 3)) > 0.99
    factor = float((sign * GROWTH * extents_of(torch.tensor([8]), 6)[0, -1] * 2).exp())
    assert bool(whole.all()) and torch.allclose(area[:, -1] / area[:, 0], torch.tensor(factor), rtol=0.12)


def test_only_the_thing_covers_the_picture(source: ThingClips) -> None:
    clips = source("held-out", range(12), motions=[*MOVES] * 2, fs=[4] * 12)
    behind = source.behind("held-out", range(12), motions=["still"] * 12, fs=[8] * 12).pixels
    bare = clips.front == 0
    assert 0.5 < float(bare.float().mean()) < 0.98
    assert torch.equal(clips.pixels[bare.expand_as(clips.pixels)], behind[bare.expand_as(behind)])
    assert min(rest_of(clips.pixels, clips.pixels[:, :, 0], clips.front)) > 60
    assert clips.pixels.abs().max() <= 1 + 1e-5


def test_every_true_clip_is_seen_as_it_moves(source: ThingClips) -> None:
    names = [*MOVES, "still"] * 4
    clips = source("held-out", range(len(names)), motions=names, fs=[4] * len(names))
    seen = see_motion(clips.pixels, None, clips.front[:, :, 0], clips.subjects, tuple(MOTIONS))
    assert [one.motion for one in seen] == clips.motions


def test_a_moving_camera_does_not_stand_still(source: ThingClips) -> None:
    clips = source("held-out", range(8), motions=["grow"] * 8, fs=[4] * 8)
    rolled = torch.stack([clips.pixels[:, :, 0].roll(frame, -1) for frame in range(6)], 2)
    assert max(rest_of(rolled, rolled[:, :, 0], clips.front)) < 25


def test_a_clip_is_made_of_its_split_and_number_alone(source: ThingClips) -> None:
    alone, among = source("train", [5]), source("train", [4, 5, 6])
    assert torch.equal(alone.pixels[0], among.pixels[1]) and alone.captions[0] == among.captions[1]
    assert not torch.equal(alone.pixels, source("held-out", [5]).pixels)


def test_a_caption_names_thing_and_motion(source: ThingClips) -> None:
    clips = source("train", range(40), motions=["object_left"] * 40, fs=[8] * 40)
    names = [thing.name for thing in source.things[False]]
    assert all("left" in caption and any(name in caption for name in names) for caption in clips.captions)


def test_training_never_shows_a_thing_that_is_held_out(source: ThingClips) -> None:
    names = [{thing.name for thing in source.things[held]} for held in (False, True)]
    assert names[0] and names[1] and not names[0] & names[1]


def test_a_window_shows_things_at_the_whole_pictures_speed(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(thing_clips, "find_things", lambda font: drawn_things())
    clips = ThingClips(16, 16, 6, fs=(8, 8), pack=str(pack), window_of=32)(
        "held-out", range(4), motions=["object_right"] * 4, fs=[8] * 4
    )
    came = middle(clips.front[0, 0])[0]
    assert float(came[-1] - came[0]) == pytest.approx(2 * float(extents_of(torch.tensor([8]), 6)[0, -1]), abs=0.03)


def test_motions_that_no_thing_has_are_refused() -> None:
    with pytest.raises(InputError, match="A thing's motions are object_left.*pan_left"):
        make_source(
            {"kind": "things", "height": 32, "width": 32, "frames": 4, "motions": ["pan_left"]}, 0, torch.device("cpu")
        )


def test_a_font_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "font.ttf").write_bytes(b"nothing")
    for name in ("font.ttf", "missing.ttf"):
        with pytest.raises(InputError, match="fonts-noto-color-emoji"):
            find_things(str(tmp_path / name))


@pytest.mark.skipif(not Path(FONT).exists(), reason="Debian's package fonts-noto-color-emoji is not installed")
def test_the_installed_font_has_things_with_names_and_shapes() -> None:
    things = {thing.name: thing for thing in find_things()}
    assert len(things) > 250 and {"soccer ball", "bird", "automobile"} <= set(things)
    assert 30 < sum(thing.held_out for thing in things.values()) < 60
    ball = things["soccer ball"].picture
    assert ball.shape[0] == 4 and min(ball.shape[1:]) > 90
    assert ball[3, 0, 0] == 0 and ball[3, ball.shape[1] // 2, ball.shape[2] // 2] == 1
    assert bool((ball[:3] <= ball[3:] + 1e-6).all())
