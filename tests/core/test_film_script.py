"""A film's script as text and as JSON, what is wrong with one, the takes it becomes, and how clips are joined."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import picture
from PIL import Image

from dynamicrafter_core.errors import InputError
from dynamicrafter_core.film.joining import joined, repeats
from dynamicrafter_core.film.script import Script, parse_script, read_script
from dynamicrafter_core.film.takes import Means, plan

MEANS = Means("A model", ("animate", "interpolate"), 16, 8.0, True)
AS_TEXT = """\
# what the film is about
size: 512x320
seed: 7

a.png | waves | 4 s | dissolve 1 s
b.png | it gets dark | 1.5 seconds | fs 12 | continue
      | rain
"""
AS_JSON = {
    "size": "512x320",
    "seed": 7,
    "shots": [
        {"image": "a.png", "prompt": "waves", "seconds": 4, "transition": "dissolve", "transition-seconds": 1},
        {"image": "b.png", "prompt": "it gets dark", "seconds": 1.5, "fs": 12, "transition": "continue"},
        {"prompt": "rain"},
    ],
}


def parsed(*shots: dict[str, Any], **film: Any) -> Script:
    return parse_script(json.dumps({**film, "shots": shots}))


def test_a_script_says_the_same_as_text_and_as_json(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(picture()).save(tmp_path / name)
    (tmp_path / "story.txt").write_text(AS_TEXT)
    (tmp_path / "story.json").write_text(json.dumps(AS_JSON))
    text, data = (read_script(tmp_path / name) for name in ("story.txt", "story.json"))
    assert [shot.where for shot in text.shots] == [f"story.txt, line {line}" for line in (5, 6, 7)]
    assert [shot.where for shot in data.shots] == [f"story.json, shot {number}" for number in (1, 2, 3)]
    for here, there in zip(text.shots, data.shots, strict=True):
        assert {**vars(here), "where": ""} == {**vars(there), "where": ""}
    assert text.options == data.options == {"width": 512, "height": 320}
    first, second, third = text.shots
    assert (first.image, first.seconds, first.transition) == (str(tmp_path / "a.png"), 4, "dissolve")
    assert first.transition_seconds == 1 and first.options["seed"] == 7
    assert second.options == {"seed": 7, "fs": 12}
    assert (third.image, third.seconds, third.transition) == (None, 2, "cut")


def test_a_script_goes_before_what_is_given_beside_it() -> None:
    script = parse_script(
        '{"seed": 7, "shots": [{"prompt": "a", "steps": 9}]}', defaults={"seed": 1, "steps": 3, "fs": 5}
    )
    assert script.shots[0].options == {"seed": 7, "steps": 9, "fs": 5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no shots"),
        ('{"shots": []}', "has no shots"),
        ('{"shots": "a.png"}', "has no shots"),
        ("{", "is not JSON"),
        ('{"shots": [3]}', "shot 1 is a int"),
        ('{"shots": [{}]}', "shot 1 has neither an image nor a prompt"),
        ('{"shots": [{"promt": "a"}]}', "shot 1: there is no key 'promt'; the nearest is prompt"),
        ('{"shots": [{"prompt": "a", "fps": 8}]}', "shot 1: there is no key 'fps'"),
        ('{"shots": [{"prompt": "a", "seconds": NaN}]}', "shot 1: seconds is nan; give a number from 0 to"),
        ('{"shots": [{"prompt": "a", "seconds": -1}]}', "shot 1: seconds is -1; give"),
        ('{"shots": [{"prompt": "a", "seconds": true}]}', "shot 1: seconds is True; give"),
        ('{"shots": [{"prompt": 3}]}', "shot 1: prompt is 3; give text"),
        (
            '{"shots": [{"prompt": "a", "transition": "disolve"}, {"prompt": "b"}]}',
            "shot 1: transition is 'disolve'; the nearest is dissolve",
        ),
        ('{"shots": [{"prompt": "a", "transition": "dissolve"}]}', "transition is 'dissolve', but no shot follows"),
        (
            '{"shots": [{"prompt": "a", "transition": "morph"}, {"prompt": "b"}]}',
            "morphs into the next shot, which has no",
        ),
        (
            '{"shots": [{"prompt": "a", "transition-seconds": 99}]}',
            "transition_seconds is 99; give a number from 0 to 60",
        ),
        ('{"keep": 5, "shots": [{"prompt": "a"}]}', "keep is 5; give a whole number from 1 to 4"),
        ('{"match": "last", "shots": [{"prompt": "a"}]}', "match is 'last'"),
        ('{"shots": [{"prompt": "a", "seed": {}}]}', "shot 1: seed is {}; give a whole number from 0"),
        ('{"frames": 4, "keep": 4, "shots": [{"prompt": "a"}]}', "frames is 4; give a whole number from 5 to 256"),
        ('{"frames": 2, "shots": [{"prompt": "a"}]}', "frames is 2; give a whole number from 3 to 256"),
        ('{"size": "big", "shots": [{"prompt": "a"}]}', "size is 'big'; give a width and a height"),
        ("just words", "line 1: 'just words' is not a shot"),
        ("a.png | waves | 2 s | wipe", "line 1: 'wipe' is neither a length"),
        ("a.png | waves | dissolve soon\nb.png | b", "line 1: 'dissolve soon' is not a transition"),
        ("a.png | waves | seed x", "line 1: seed is 'x'; give a whole number"),
        ("a.png | a\nseed: 3", "line 2: 'seed: 3' is not a shot"),
    ],
)
def test_what_is_wrong_with_a_script_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        parse_script(text)
    assert said in str(error.value)


def test_a_missing_picture_or_script_is_named(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("nowhere.png | a")
    with pytest.raises(InputError, match=r"line 1: image .*nowhere.png does not exist"):
        read_script(tmp_path / "story.txt")
    with pytest.raises(InputError, match=r"other.json does not exist"):
        read_script(tmp_path / "other.json")
    (tmp_path / "story.txt").write_text(f"{'a' * 5000}.png | a")
    with pytest.raises(InputError, match="does not exist; check the path"):
        read_script(tmp_path / "story.txt")
    (tmp_path / "story.txt").write_bytes(b"\xff\xfe a | b")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_script(tmp_path / "story.txt")


@pytest.mark.skipif(not os.path.isfile("/proc/self/mem"), reason="a file that Linux has, and that nobody can read")
def test_a_script_that_cannot_be_read_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="/proc/self/mem cannot be read"):
        read_script("/proc/self/mem")


def test_a_long_shot_is_a_chain_of_takes() -> None:
    takes = plan(parsed({"image": "a", "prompt": "p", "seconds": 5, "seed": 3}, keep=2), MEANS)
    assert [take.kind for take in takes] == ["animate", "extend", "extend"]
    assert [take.frames for take in takes] == [16, 14, 10]  # 5 seconds of 8
    assert [take.options["seed"] for take in takes] == [3, 4, 5]
    assert {take.image for take in takes} == {"a"} and {take.made for take in takes} == {16}


def test_with_a_window_a_shot_is_one_take() -> None:
    takes = plan(parsed({"image": "a", "seconds": 5, "window": 16}), MEANS)
    assert [(take.kind, take.frames, take.made) for take in takes] == [("animate", 40, 40)]


def test_a_shot_of_no_seconds_is_its_picture_and_morphs_have_any_length() -> None:
    script = parsed(
        {"image": "a", "seconds": 0, "transition": "morph", "transition_seconds": 3}, {"image": "b", "seconds": 0}
    )
    takes = plan(script, Means("Between", ("interpolate",), 16, 8, True))
    assert [(take.kind, take.image, take.frames) for take in takes] == [
        ("still", "a", 1),
        ("morph", "b", 24),
        ("still", "b", 1),
    ]


def test_transitions_become_takes_and_overlaps() -> None:
    script = parsed(
        {"image": "a", "transition": "dissolve"},
        {"image": "b", "transition": "continue"},
        {"prompt": "p", "transition": "morph"},
        {"image": "c", "transition": "morph", "transition_seconds": 0.5},
        {"image": "d"},
    )
    takes = plan(script, MEANS)
    assert [(take.kind, take.image, take.frames, take.dissolve) for take in takes] == [
        ("animate", "a", 16, 0),
        ("animate", "b", 16, 4),
        ("extend", "b", 15, 0),
        ("extend", "b", 1, 0),
        ("morph", "c", 14, 0),
        ("animate", "c", 16, 0),
        ("morph", "d", 4, 0),
        ("animate", "d", 16, 0),
    ]


@pytest.mark.parametrize(
    ("shots", "means", "said"),
    [
        ([{"image": "a"}, {"prompt": "b"}], MEANS, "shot 2 has no image, and A model makes no clip from text alone"),
        (
            [{"image": "a", "transition": "dissolve", "transition_seconds": 2}, {"image": "b"}],
            MEANS,
            "shot 1: a dissolve of 16 frames is too long",
        ),
        (
            [{"image": "a", "transition": "dissolve"}] * 2 + [{"image": "b", "seconds": 0.5, "transition": "cut"}],
            MEANS,
            "shot 2: a dissolve of 4 frames is too long for shots of 4 frames",
        ),
        (
            [{"image": "a", "transition": "morph"}, {"image": "b"}],
            Means("A model", ("animate",), 16, 8, False),
            "shot 1: a morph needs a model that goes",
        ),
        (
            [{"prompt": "a", "seconds": 3}],
            Means("T", ("generate",), 16, 8, False),
            "3 seconds are more than the 16 frames",
        ),
        ([{"image": "a"}], Means("T", ("generate",), 16, 8, False), "shot 1: T cannot animate a picture"),
    ],
)
def test_what_a_model_cannot_make_is_refused_by_its_shot(shots: list, means: Means, said: str) -> None:
    with pytest.raises(InputError) as error:
        plan(parsed(*shots), means)
    assert said in str(error.value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1.2, 20), st.sampled_from(["cut", "dissolve", "continue"])), min_size=1, max_size=6),
    st.integers(1, 4),
    st.sampled_from([0, 8, 16]),
)
def test_a_film_is_as_long_as_its_shots_say(shots: list, keep: int, window: int) -> None:
    told = [{"image": "a", "seconds": seconds, "transition": how} for seconds, how in shots]
    told[-1]["transition"] = "cut"
    takes = plan(parsed(*told, keep=keep, **({"window": window} if window else {})), MEANS)
    dissolves = sum(shot["transition"] == "dissolve" for shot in told)
    assert sum(take.frames - take.dissolve for take in takes) == sum(round(8 * s) for s, _ in shots) - 4 * dissolves
    assert all(0 < take.frames <= take.made for take in takes)


def test_frames_dissolve_in_equal_steps_and_none_is_lost() -> None:
    clips = [torch.full((6, 1, 1, 3), 0.0), torch.full((2, 1, 1, 3), 4.0), torch.full((5, 1, 1, 3), 4.0)]
    out = [float(frame.mean()) for frame in joined(zip(clips, (0, 3, 0), strict=True), 3)]
    assert out == [0, 0, 0, 1, 2, 3, 4, 4, 4, 4]  # over the border of the second clip too
    whole = [float(frame.mean()) for frame in joined(zip(clips, (0, 0, 0), strict=True), 0)]
    assert whole == [0] * 6 + [4] * 7
    levels = torch.tensor([[10], [21]], dtype=torch.uint8).view(2, 1, 1, 1, 1)
    assert [int(frame) for frame in joined([(levels[0], 0), (levels[1], 1)], 1)] == [16]


def test_a_frame_shown_twice_is_seen() -> None:
    moving = torch.arange(12.0).view(12, 1, 1, 1).expand(-1, 4, 4, 3)
    assert repeats(moving[:6], moving[5:])
    assert not repeats(moving[:6], moving[6:])
    still = torch.ones(3, 4, 4, 3)
    assert repeats(still, still) and not repeats(still, still + 1)
