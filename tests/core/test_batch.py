"""Many clips: jobs read and checked, made once whatever ends the run, and told about in files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_files import lines, pixels, with_pictures
from micro import ANIMATE, FRAMES, INTERPOLATE, picture
from PIL import Image

from dynamicrafter_core import render
from dynamicrafter_core.batch.jobs import Job, Refused, read_jobs
from dynamicrafter_core.batch.work import Worker
from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.media.frames import read_clip
from dynamicrafter_core.media.saving import read_settings
from dynamicrafter_core.pipeline.pipeline import Pipeline

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures, and the working directory."""
    monkeypatch.chdir(tmp_path)
    return with_pictures(tmp_path)


@pytest.fixture
def model(model_of: Callable[[str], Path]) -> str:
    return str(model_of(ANIMATE))


def test_a_job_is_what_the_pipeline_makes_of_the_same_words(folder: Path, model: str) -> None:
    (result,) = render([{"image": "p0.png", "prompt": "a cat", "seed": 5, "steps": 2, "cfg": 3, "model": model}], "out")
    assert (result.state, result.name, result.path) == ("made", "0001-p0", Path("out/0001-p0.mp4"))
    clip = Pipeline(model).animate("p0.png", "a cat", seed=5, steps=2, text_scale=3.0)
    assert len(read_clip(result.path)) == FRAMES
    settings = read_settings(result.path)
    assert {key: settings[key] for key in clip.settings} == json.loads(json.dumps(clip.settings))
    clip.save("alone.mp4")
    assert np.array_equal(np.stack(read_clip("alone.mp4")), np.stack(read_clip(result.path)))


def test_all_modes_and_formats(folder: Path, model: str, model_of: Callable[[str], Path]) -> None:
    between, views = str(model_of(INTERPOLATE)), str(model_of("viewcrafter_25"))
    common = {"steps": 1, "image": "p0.png"}
    jobs = [
        {**common, "model": model, "format": "gif", "name": "a"},
        {**common, "model": between, "last": "p1.png", "name": "b"},
        {**common, "model": between, "mode": "loop", "format": "png", "name": "c"},
        {**common, "model": views, "camera": "zoom in", "name": "d"},
        {"steps": 1, "model": str(model_of("videocrafter2_t2v_512")), "prompt": "a panda", "name": "e"},
    ]
    results = {each.name: each for each in render(jobs, "out")}
    assert [results[name].error for name in "abcde"] == 5 * [None]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.gif", "b.mp4", "c.png", "d.mp4", "e.mp4"]


def test_jobs_of_one_model_follow_one_another(folder: Path, model: str, model_of: Callable[[str], Path]) -> None:
    between = str(model_of(INTERPOLATE))
    jobs = [
        {"image": "p0.png", "steps": 1, "model": model},
        {"image": "p0.png", "last": "p1.png", "steps": 1, "model": between},
        {"image": "p1.png", "steps": 1, "model": model},
    ]
    assert [result.number for result in render(jobs, "out")] == [1, 3, 2]


def test_a_folder_and_a_csv_file_are_jobs_too(folder: Path, model: str) -> None:
    found = read_jobs(folder, {"prompt": "waves"})
    assert [(job.name, job.prompt, job.mode) for job in found] == [
        (f"000{n + 1}-p{n}", "waves", "animate") for n in range(4)
    ]
    (folder / "jobs.csv").write_text(
        'image,prompt,steps,cfg-image,size\np0.png,"a cat, running",3,1.5,64x64\np1.png,,,,\n'
    )
    first, second = read_jobs(folder / "jobs.csv", {"steps": 9})
    assert first.options == {"steps": 3, "image_scale": 1.5, "width": 64, "height": 64}
    assert (first.prompt, second.prompt, second.options) == ("a cat, running", "", {"steps": 9})


def test_a_scale_is_a_number_or_a_curve(folder: Path) -> None:
    (folder / "jobs.csv").write_text('image,cfg,cfg-image\np0.png,"0: 9, 1: 3",2\n')
    (job,) = read_jobs(folder / "jobs.csv")
    assert job.options == {"text_scale": "0: 9, 1: 3", "image_scale": 2.0}
    (folder / "jobs.csv").write_text("image,cfg\np0.png,high\n")
    assert "cfg is 'high'; give a number" in read_jobs(folder / "jobs.csv")[0].error


def test_pictures_of_the_context_are_files_beside_the_jobs(folder: Path) -> None:
    (folder / "jobs.csv").write_text(
        "image,negative-image,references,reference-weights\np0.png,p1.png,p2.png;p3.png,1;0.5\np0.png,,p2.png,\n"
    )
    first, second = read_jobs(folder / "jobs.csv")
    places = [str(folder / f"p{number}.png") for number in range(4)]
    assert first.options == {
        "negative_image": places[1],
        "references": (places[2], places[3]),
        "reference_weights": (1.0, 0.5),
    }
    assert list(first.files()) == places
    before = second.fingerprint()
    (folder / "p2.png").write_bytes((folder / "p1.png").read_bytes())
    assert second.fingerprint() != before
    (folder / "jobs.jsonl").write_text('{"image": "p0.png", "references": ["gone.png"]}\n')
    (refused,) = read_jobs(folder / "jobs.jsonl")
    assert "gone.png does not exist; check the path" in refused.error


def test_strokes_and_a_brush_are_keys_of_a_job(folder: Path) -> None:
    Image.new("L", (8, 8), 255).save("brush.png")
    Path("jobs.csv").write_text('image,strokes,brush\na.png,"1,2 -> 3,4; until 0.5",brush.png\n')
    Image.new("RGB", (8, 8)).save("a.png")
    (job,) = read_jobs("jobs.csv")
    assert isinstance(job, Job)
    assert job.options == {"strokes": "1,2 -> 3,4; until 0.5", "brush": "brush.png"}
    before = job.fingerprint()
    Image.new("L", (8, 8), 0).save("brush.png")
    assert job.fingerprint() != before
    (refused,) = read_jobs([{"image": "a.png", "flow": "gone.npy"}])
    assert isinstance(refused, Refused) and "flow gone.npy does not exist" in refused.error


def test_defaults_stand_in_the_files_head_and_behind_the_commands(folder: Path) -> None:
    path = lines(
        folder / "jobs.jsonl", {"defaults": {"steps": 4, "seed": 1}}, "# a comment", "", {"image": "p0.png", "seed": 2}
    )
    (job,) = read_jobs(path, {"steps": 7})
    assert job.options == {"steps": 7, "seed": 2} and job.where == "jobs.jsonl, line 4"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"imagee": "p0.png"}, "there is no key 'imagee'; the nearest is image"),
        ({"image": "gone.png"}, "image .*gone.png does not exist"),
        ({"mode": "dance"}, "mode is 'dance'; give animate, interpolate, loop, generate, fly"),
        ({"mode": "interpolate", "image": "p0.png"}, "last is missing; to interpolate, give image and last"),
        ({"mode": "loop", "image": "p0.png", "last": "p1.png"}, "last is .*, but mode loop takes none"),
        ({"image": "p0.png", "name": "../x"}, "name is '../x'; give letters"),
        ({"image": "p0.png", "name": "/etc/x"}, "name is '/etc/x'"),
        ({"image": "p0.png", "name": ".."}, "name is '..'"),
        ({"image": "p0.png", "steps": "many"}, "steps is 'many'; give a whole number"),
        ({"image": "p0.png", "steps": 0}, "steps is 0; give a whole number from 1"),
        ({"image": "p0.png", "cfg": "NaN"}, "cfg .text scale. is nan"),
        ({"image": "p0.png", "prompt": 3}, "prompt is 3; give text"),
        ({"image": "p0.png", "motion": "sideways 3"}, "motion"),
        ({"image": "p0.png", "speed": "quick"}, "speed holds 'quick'; give exact, balanced, fast"),
        ({"image": "p0.png", "size": "big"}, "size is 'big'; give a width and a height"),
        ({"image": "p0.png", "size": "65x64"}, "65x64 is not divisible"),
        ({"image": "p0.png", "format": "avi"}, "format is 'avi'; give mp4, gif, png"),
        ({"image": "p0.png", "model": "gone.ckpt"}, "gone.ckpt does not exist"),
        ({"image": "p0.png", "camera": "up and away"}, "motion 'up and away' is unknown"),
        ({"image": "p0.png", "depth": "p1.png"}, "depth is given, but only mode fly takes it"),
        ({"image": "p0.png", "mode": "fly"}, "to fly, give either camera"),
        ([1, 2], "the line is a list; give an object"),
        ("{broken", "the line is not JSON"),
        ("[" * 100_000, "the line is not JSON"),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_the_others_go_on(
    entry: Any, message: str, folder: Path, model: str
) -> None:
    path = lines(folder / "jobs.jsonl", entry, {"image": "p0.png", "steps": 1, "model": model})
    bad, good = sorted(render(path, "out"), key=lambda result: result.number)
    assert bad.state == "failed" and bad.error and bad.error.startswith("jobs.jsonl, line 1: ")
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(bad.error)
    assert good.state == "made" and good.path and good.path.exists()
    assert sorted(path.name for path in Path("out").iterdir()) == ["0002-p0.mp4"]


def test_names_are_taken_once(folder: Path) -> None:
    jobs = read_jobs([{"image": "p0.png", "name": "a"}, {"image": "p1.png", "name": "A"}])
    assert isinstance(jobs[0], Job) and isinstance(jobs[1], Refused) and "taken by job 1" in jobs[1].error


def test_a_list_of_jobs_that_is_none_is_refused(folder: Path) -> None:
    (folder / "empty.jsonl").write_text("\n")
    (folder / "none").mkdir()
    (folder / "latin.csv").write_bytes(b"image\n\xff\xfe")
    for source, message in [
        ("gone.jsonl", "gone.jsonl does not exist"),
        ("empty.jsonl", "holds no jobs"),
        ("none", "none holds no pictures"),
        ("latin.csv", "is not UTF-8 text"),
    ]:
        with pytest.raises(InputError, match=message):
            read_jobs(source)
    with pytest.raises(InputError, match="there is no key 'stepz'"):
        read_jobs([], {"stepz": 1})


def test_what_is_made_is_kept_and_what_changed_is_made_again(folder: Path, model: str) -> None:
    jobs = [{"image": f"p{n}.png", "steps": 1, "model": model} for n in range(3)]
    assert [result.state for result in render(jobs, "out")] == 3 * ["made"]
    before = pixels(Path("out"))
    assert [result.state for result in render(jobs, "out")] == 3 * ["kept"]
    Image.fromarray(picture(9)).save("p1.png")
    jobs[2]["seed"] = 4
    states = {result.number: result.state for result in render(jobs, "out")}
    assert states == {1: "kept", 2: "made", 3: "made"}
    after = pixels(Path("out"))
    assert [before[name] == after[name] for name in before] == [True, False, False]


def test_a_file_of_somebody_else_is_not_overwritten(folder: Path, model: str) -> None:
    Pipeline(model).animate("p0.png", steps=1).save("mine.mp4")
    (result,) = render([{"image": "p0.png", "steps": 1, "model": model, "name": "mine"}], ".")
    assert result.error and "mine.mp4 exists and is not the result of a batch" in result.error


def test_an_accident_is_tried_again_and_a_refusal_is_not(
    folder: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, make = [], Worker.make

    def stumble(self: Worker, job: Job, *rest: Any) -> Any:
        calls.append(job.number)
        if len(calls) < 3:
            raise RuntimeError("the device hiccuped")
        return make(self, job, *rest)

    monkeypatch.setattr(Worker, "make", stumble)
    job = {"image": "p0.png", "steps": 1, "model": model}
    (result,) = render([job], "out", retries=1)
    assert result.error == "job 1: RuntimeError: the device hiccuped" and calls == [1, 1]
    (result,) = render([job], "out", retries=2)
    assert result.state == "made"
    (folder / "p3.png").write_bytes(b"no picture")
    calls.clear()
    calls += [0, 0, 0]
    (result,) = render([{**job, "image": "p3.png"}], "out", retries=5)
    assert result.error and "not an image that Pillow can read" in result.error and len(calls) <= 4


def test_the_report_tells_all_and_trusts_nobody(folder: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    evil = '<script>alert("x")</script>'
    path = lines(folder / "jobs.jsonl", {"image": "p0.png", "prompt": evil}, {"image": evil}, {"image": "p1.png"})
    assert main(["batch", str(path), "-o", "out", "-m", model, "--set", "steps=1"]) == 1
    page = Path("out/report.html").read_text()
    assert "2 clips, 1 failed" in page and page.count("<script>") == 1 and evil not in page and "&lt;script&gt;" in page
    assert 'src="0001-p0.mp4"' in page and 'src="0003-p1.mp4"' in page
    entries = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert [entry["state"] for entry in entries] == ["done", "failed", "done"]
    assert entries[0]["settings"]["prompt"] == evil and "line 2" in entries[1]["error"]
    assert "2 of 3 clips in out; 1 failed" in capsys.readouterr().out
    assert main(["batch", str(path), "-o", "out", "-m", model, "--set", "steps=1", "--check"]) == 1
    assert "2 of 3 jobs can be made" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    [
        ["--set", "steps"],
        ["--set", "stepz=1"],
        ["--retries", "-1"],
        ["--at-once", "0"],
        ["--at-once", "2", "--ray", "local"],
        ["--ray", "nowhere:1"],
    ],
)
def test_the_command_refuses_bad_options_in_a_sentence(
    given: list[str], folder: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if given[0] == "--ray":
        pytest.importorskip("ray")
        given = ["--ray", "not an address"]
    path = lines(folder / "jobs.jsonl", {"image": "p0.png", "steps": 1, "model": model})
    assert main(["batch", str(path), "-o", "out", *given]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("dynamicrafter: ") and len(said.splitlines()) == 1


def test_half_a_character_is_refused_and_the_report_written(folder: Path, model: str) -> None:
    jobs = lines(Path("j.jsonl"), {"image": "p0.png", "name": "\ud800"}, {"image": "p0.png", "prompt": "\ud800"})
    assert main(["batch", str(jobs), "-o", "out", "-m", model, "--quiet"]) == 1
    told = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert ["name is" in told[0]["error"], "half of a character" in told[1]["error"]] == [True, True]
    assert r"\ud800" in Path("out/report.html").read_text(encoding="utf-8")


def test_a_folder_within_a_folder_is_no_part_of_a_guide(folder: Path) -> None:
    (folder / "views" / "more").mkdir(parents=True)
    (folder / "views" / "0.png").write_bytes((folder / "p0.png").read_bytes())
    (job,) = read_jobs([{"image": "p0.png", "guide": "views"}])
    assert isinstance(job, Job) and len(job.fingerprint()) == 32
