"""Films: what each shot shows, what is made again and what is not, and that a killed film ends as an uninterrupted one."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import repository
import torch
from micro import ANIMATE, FRAMES, HEIGHT, INTERPOLATE, WIDTH, picture
from PIL import Image
from torch import Tensor

from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.film import film as films
from dynamicrafter_core.film.film import make_film
from dynamicrafter_core.film.script import read_script
from dynamicrafter_core.media.frames import read_clip
from dynamicrafter_core.media.images import fit_image, read_image
from dynamicrafter_core.media.saving import read_settings
from dynamicrafter_core.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.slow
ModelOf = Callable[[str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        Image.fromarray(picture(number)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def pipeline(model_of: ModelOf) -> Pipeline:
    return Pipeline(model_of(ANIMATE))


def make(pipeline: Pipeline, folder: Path, *shots: dict[str, Any], name: str = "film", **film: Any) -> Tensor:
    """The film's frames [T,H,W,3], read from a folder of PNG frames, which loses nothing."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"steps": 1, **film, "shots": shots}))
    made = make_film(pipeline, read_script(path), folder / name, takes=folder / "takes")
    frames = torch.from_numpy(np.stack(read_clip(folder / name)))
    assert len(frames) == made.frames
    return frames


@pytest.fixture
def shot(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prompts of the takes that are really made."""
    made: list[str] = []
    make_take = films._shoot

    def counted(pipeline: Any, morph: Any, script: Any, take: Any, *more: Any) -> Any:
        made.append(take.prompt)
        return make_take(pipeline, morph, script, take, *more)

    monkeypatch.setattr(films, "_shoot", counted)
    return made


def test_a_shot_is_the_clip_and_a_longer_one_goes_on(pipeline: Pipeline, folder: Path) -> None:
    film = make(pipeline, folder, {"image": "a.png", "prompt": "a", "seconds": 3, "seed": 5})
    first = pipeline.animate(folder / "a.png", "a", steps=1, seed=5)
    more = pipeline.extend(first, "a", image=folder / "a.png", steps=1, seed=6)
    assert torch.equal(film, torch.cat([first.frames, more.frames])[:24])


def test_a_film_has_the_size_of_its_first_picture(pipeline: Pipeline, folder: Path) -> None:
    Image.fromarray(picture(1, width=40, height=60)).save(folder / "b.png")
    film = make(pipeline, folder, {"image": "a.png", "prompt": "a"}, {"image": "b.png", "prompt": "b"})
    assert film.shape == (2 * FRAMES, HEIGHT, WIDTH, 3)


def test_a_shot_goes_on_from_the_last_one_with_its_own_words_and_picture(pipeline: Pipeline, folder: Path) -> None:
    film = make(
        pipeline,
        folder,
        {"image": "a.png", "prompt": "a", "transition": "continue"},
        {"image": "b.png", "prompt": "b", "seconds": 1},
        keep=2,
        match="first",
        seed=1,
    )
    first = pipeline.animate(folder / "a.png", "a", steps=1, seed=1)
    more = pipeline.extend(first, "b", image=folder / "b.png", keep=2, match="first", steps=1, seed=1)
    assert torch.equal(film, torch.cat([first.frames, more.frames[:8]]))


def test_shots_dissolve(pipeline: Pipeline, folder: Path) -> None:
    told = {"seconds": 1, "seed": 2}
    shots = [{"image": f"{name}.png", "prompt": name, **told} for name in "ab"]
    cut = make(pipeline, folder, *shots)
    film = make(pipeline, folder, {**shots[0], "transition": "dissolve", "transition_seconds": 0.375}, shots[1])
    assert torch.equal(cut[:5], film[:5]) and torch.equal(cut[11:], film[8:])
    for step in range(3):
        share = (step + 1) / 4
        expected = (1 - share) * cut[5 + step].float() + share * cut[8 + step].float()
        assert (film[5 + step].float() - expected).abs().max() <= 0.5


def test_a_morph_leads_from_one_shot_to_the_next(model_of: ModelOf, pipeline: Pipeline, folder: Path) -> None:
    (folder / "story.json").write_text(
        json.dumps({"steps": 1, "shots": [{"image": "a.png", "transition": "morph"}, {"image": "b.png"}]})
    )
    script = read_script(folder / "story.json")
    with pytest.raises(InputError, match="shot 1: a morph needs a model that goes"):
        make_film(pipeline, script, folder / "film")
    between = Pipeline(model_of(INTERPOLATE))
    assert make_film(pipeline, script, folder / "film", morph=between).frames == 2 * FRAMES + FRAMES - 2
    film = torch.from_numpy(np.stack(read_clip(folder / "film")))
    way = between.interpolate(film[FRAMES - 1].numpy(), folder / "b.png", steps=1, width=WIDTH, height=HEIGHT)
    assert torch.equal(film[FRAMES : 2 * FRAMES - 2], way.frames[1:-1])


def test_keyframes_are_pictures_with_morphs_between_them(model_of: ModelOf, folder: Path) -> None:
    shots = [{"image": f"{name}.png", "transition": "morph", "transition_seconds": 2.5} for name in "ab"]
    film = make(Pipeline(model_of(INTERPOLATE)), folder, *shots, {"image": "c.png"}, seconds=0)
    assert len(film) == 3 + 2 * 20
    for frame, number in ((0, 0), (21, 1), (42, 2)):
        fitted = (fit_image(read_image(picture(number)), WIDTH, HEIGHT) + 1) * 127.5
        assert (film[frame] - fitted.movedim(0, -1)).abs().max() <= 0.51


def test_only_what_a_change_touches_is_made_again(pipeline: Pipeline, folder: Path, shot: list[str]) -> None:
    shots = [
        {"image": "a.png", "prompt": "a"},
        {"image": "b.png", "prompt": "b", "transition": "continue"},
        {"prompt": "c"},
    ]
    film = make(pipeline, folder, *shots)
    assert shot == ["a", "b", "c", "c"]  # fifteen new frames, and one more
    shot.clear()
    assert torch.equal(make(pipeline, folder, *shots), film) and not shot
    make(pipeline, folder, {**shots[0], "transition": "dissolve"}, *shots[1:])
    make(pipeline, folder, shots[1], shots[2], shots[0])
    assert not shot
    make(pipeline, folder, {**shots[0], "prompt": "d"}, *shots[1:])
    assert shot == ["d"]
    shot.clear()
    Image.fromarray(picture(7)).save(folder / "b.png")
    make(pipeline, folder, *shots)
    assert shot == ["b", "c", "c"]


def test_a_damaged_take_is_made_again(pipeline: Pipeline, folder: Path, shot: list[str]) -> None:
    film = make(pipeline, folder, {"image": "a.png", "prompt": "a"})
    (take,) = (folder / "takes").glob("*.safetensors")
    take.write_bytes(take.read_bytes()[:-100])
    assert torch.equal(make(pipeline, folder, {"image": "a.png", "prompt": "a"}), film) and shot == ["a", "a"]


def test_a_bad_setting_is_refused_before_anything_is_made(pipeline: Pipeline, folder: Path, shot: list[str]) -> None:
    with pytest.raises(InputError, match="shot 2: steps is 0; give"):
        make(pipeline, folder, {"image": "a.png"}, {"image": "b.png", "steps": 0})
    with pytest.raises(InputError, match="fps is 0"):
        make(pipeline, folder, {"image": "a.png"}, fps=0)
    (folder / "film").write_text("")
    with pytest.raises(InputError, match=r"film is a file; give the folder"):
        make(pipeline, folder, {"image": "a.png"})
    assert not shot and not (folder / "takes").exists()


SIX = """\
size: {width}x{height}
steps: 2
seconds: 1

a.png | one | dissolve 0.25 s
b.png | two | continue
      | three | 3 s | cut
c.png | four | seed 9
a.png | five | continue
b.png | six
"""


def test_a_killed_film_goes_on_and_ends_as_one_that_was_not(model_of: ModelOf, folder: Path) -> None:
    (folder / "story.txt").write_text(SIX.format(width=WIDTH, height=HEIGHT))
    command = [sys.executable, "-m", "dynamicrafter_core", "film", str(folder / "story.txt"), "--quiet"]
    command += ["-m", str(model_of(ANIMATE))]
    takes = folder / "killed.takes"

    process = subprocess.Popen([*command, "-o", str(folder / "killed.mp4")], cwd=repository.ROOT)
    deadline = time.monotonic() + 120
    while len(list(takes.glob("[!.]*.safetensors"))) < 3:  # in the third shot, which has two takes
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (folder / "killed.mp4").exists()
    there = {path.name: path.stat().st_mtime_ns for path in takes.glob("[!.]*.safetensors")}
    assert len(there) < 7

    for name in ("killed.mp4", "whole.mp4"):
        subprocess.run([*command, "-o", str(folder / name)], cwd=repository.ROOT, check=True)
    assert {name: (takes / name).stat().st_mtime_ns for name in there} == there
    films = []
    for name in ("killed.mp4", "whole.mp4"):
        with av.open(folder / name) as container:
            films.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    assert np.array_equal(*films)
    assert films[0].shape == (5 * 8 + 3 * 8 - 2, HEIGHT, WIDTH, 3)
    assert (folder / "killed.mp4").read_bytes() == (folder / "whole.mp4").read_bytes()
    assert [shot["prompt"] for shot in read_settings(folder / "whole.mp4")["shots"]][:2] == ["one", "two"]


def test_the_command_line_checks_tells_and_refuses(
    model_of: ModelOf, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    Path("story.txt").write_text("a.png | a | dissolve\nb.png | b")
    given = ["film", "story.txt", "-m", str(model_of(ANIMATE)), "--set", "steps=1"]
    assert main([*given, "--check"]) == 0
    assert capsys.readouterr().out == "2 shots, 2 takes, 3.5 s\n"
    assert main([*given, "--set", "steps=0", "--check"]) == 2
    assert capsys.readouterr().err == (
        "dynamicrafter: story.txt, line 1: steps is 0; give a whole number from 1 to 1000.\n"
    )
    assert list(folder.glob("story*")) == [folder / "story.txt"]
    assert main(given) == 0
    assert capsys.readouterr().out.endswith("story.mp4: 28 frames, 3.5 s, of 2 takes\n")
    assert main([*given, "--quiet", "-o", "story.gif", "--takes", "story.takes"]) == 0
    assert sorted(path.name for path in folder.glob("story*")) == [
        "story.gif",
        "story.mp4",
        "story.takes",
        "story.txt",
    ]
