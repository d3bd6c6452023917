"""Drawings in a run: read as lines on paper, seen by the encoder at their frames, and added within their span."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import ANIMATE, INTERPOLATE, Spy, micro_configs, micro_sketch_encoder, picture
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from dynamicrafter_core.batch.jobs import Job, Refused, read_jobs
from dynamicrafter_core.checkpoints.sketch_file import open_sketch_encoder
from dynamicrafter_core.cli.main import main
from dynamicrafter_core.errors import InputError
from dynamicrafter_core.film.script import read_script
from dynamicrafter_core.pipeline.pipeline import Pipeline
from dynamicrafter_core.pipeline.settings import settle
from dynamicrafter_core.pipeline.sketches import Drawings, SketchPlan, read_places

ModelOf = Callable[[str], Path]
PLAN = SketchPlan()
SHORT: dict[str, Any] = {"steps": 2, "frames": 4, "seed": 5, "text_scale": 2.0}


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return micro_sketch_encoder(tmp_path_factory.mktemp("sketch") / "sketch_encoder.safetensors")


@pytest.fixture
def pipeline(model_of: ModelOf) -> Pipeline:
    return Pipeline(model_of(INTERPOLATE))


def clip_of(pipeline: Pipeline, **options: Any) -> torch.Tensor:
    return pipeline.interpolate(picture(), picture(1), "a cat", **{**SHORT, **options}).frames


def line(width: int = 24, height: int = 16, row: int = 4) -> np.ndarray:
    """A black line across white paper."""
    drawn = np.full((height, width, 3), 255, np.uint8)
    drawn[row] = 0
    return drawn


def drawings(*frames: int, plan: SketchPlan = PLAN, fit: Any = "crop") -> Drawings:
    pictures = {frame: torch.from_numpy(line()).movedim(-1, 0) / 127.5 - 1 for frame in frames}
    return Drawings.of_frames(pictures, 4, (24, 16), fit, plan)


def test_lines_are_white_on_black_and_frames_without_a_drawing_empty() -> None:
    hint = drawings(1).hint
    assert hint.shape == (1, 1, 4, 16, 24)
    assert hint[0, 0, 1, 4].eq(1).all() and hint[0, 0, 1].sum() == 24
    assert not hint[0, 0, [0, 2, 3]].any()
    assert torch.equal(drawings(1, plan=SketchPlan(lines="light")).hint[0, 0, 1], 1 - hint[0, 0, 1])


def test_colours_count_as_bright_as_they_look() -> None:
    red, green, blue = (torch.full((3, 1, 1), -1.0) for _ in range(3))
    red[0], green[1], blue[2] = 1, 1, 1
    ink = SketchPlan().ink
    torch.testing.assert_close([1 - ink(each).item() for each in (red, green, blue)], [0.299, 0.587, 0.114])


def test_what_padding_adds_is_paper() -> None:
    wide = torch.from_numpy(line(48, 16)).movedim(-1, 0) / 127.5 - 1
    hint = Drawings.of_frames({0: wide}, 1, (24, 16), "pad", SketchPlan()).hint[0, 0, 0]
    assert not hint[:4].any() and not hint[12:].any() and hint[4:12].any()


@pytest.mark.parametrize("lines", ["dark", "light"])
def test_transparent_paper_is_paper(lines: str, pipeline: Pipeline, encoder_file: Path, tmp_path: Path) -> None:
    shade = 0 if lines == "dark" else 255
    clear = np.zeros((16, 24, 4), np.uint8)
    clear[4] = (shade, shade, shade, 255)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    opaque = line() if lines == "dark" else 255 - line()
    asked = {"sketch_encoder": encoder_file, "sketch_plan": lines}
    one, other = (clip_of(pipeline, sketches={2: each}, **asked) for each in (tmp_path / "clear.png", opaque))
    assert torch.equal(one, other)


def test_without_drawings_or_at_strength_0_a_clip_is_as_before(pipeline: Pipeline, encoder_file: Path) -> None:
    plain = clip_of(pipeline)
    given = {"sketches": {2: line()}, "sketch_encoder": encoder_file}
    assert torch.equal(clip_of(pipeline, **given, sketch_plan="strength 0"), plain)
    steered = clip_of(pipeline, **given)
    assert not torch.equal(steered, plain)
    assert not torch.equal(clip_of(pipeline, **given, sketch_plan="strength 0.3"), steered)
    assert torch.equal(clip_of(pipeline, **given, sketch_plan="strength 0.6, from 0, to 1, dark, blank"), steered)


def controls(spy: Spy) -> list[Any]:
    return [call.get("control") for call in spy.calls]


def test_the_unet_gets_what_the_encoder_makes_of_its_latent(pipeline: Pipeline, encoder_file: Path, spy: Spy) -> None:
    clip_of(pipeline, sketches={2: line()}, sketch_encoder=encoder_file, text_scale=3.0, image_scale=2.0)
    encoder, plan = open_sketch_encoder(encoder_file).load(), SketchPlan()
    for call in spy.calls:
        hint = drawings(2).hint
        with torch.inference_mode():
            skips, middle = encoder(call["x"][:, :4], hint, call["t"], call["text"], strength=plan.strength)
        for expected, actual in zip([*skips, middle], [*call["control"][0], call["control"][1]], strict=True):
            torch.testing.assert_close(actual, expected)
    assert len(spy.first["text"]) == 3 and middle.abs().max() > 1e-3


def test_it_counts_within_its_span_of_the_run(pipeline: Pipeline, encoder_file: Path, spy: Spy) -> None:
    given = {"sketches": {2: line()}, "sketch_encoder": encoder_file, "steps": 4}
    clip_of(pipeline, **given, sketch_plan="from 0.3, to 0.8")
    within = [0.3 <= 1 - call["t"][0].item() / 999 <= 0.8 for call in spy.calls]
    assert True in within and False in within
    assert [control is not None for control in controls(spy)] == within


def test_free_frames_get_nothing_and_blank_ones_an_empty_drawing(encoder_file: Path) -> None:
    encoder = open_sketch_encoder(encoder_file).load()
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, 4, 4, 8, 12, generator=generator), torch.randn(2, 7, 64, generator=generator)
    t = torch.tensor([500])
    blank, free = (
        drawings(2, plan=SketchPlan(between=between)).residuals(encoder, x, t, text) for between in ("blank", "free")
    )
    assert blank is not None and free is not None
    for one, other in zip([*blank[0], blank[1]], [*free[0], free[1]], strict=True):
        by_frame = [part.unflatten(0, (-1, 4)) for part in (one, other)]
        assert torch.equal(by_frame[0][:, 2], by_frame[1][:, 2])
        assert not by_frame[1][:, [0, 1, 3]].any() and by_frame[0][:, [0, 1, 3]].any()
    none = drawings(plan=SketchPlan(between="free"))
    assert none.residuals(encoder, x, t, text) is None


def test_each_window_sees_the_drawings_of_its_frames(pipeline: Pipeline, encoder_file: Path, spy: Spy) -> None:
    given = {"sketches": {5: line()}, "sketch_encoder": encoder_file, "sketch_plan": "free", "frames": 8}
    clip_of(pipeline, **given, window=4, overlap=0, steps=1)
    first, second = controls(spy)
    assert first is None
    assert [bool(frame.any()) for frame in second[0][0][:4]] == [False, True, False, False]


def test_one_drawing_a_frame_and_negative_frames(pipeline: Pipeline, encoder_file: Path) -> None:
    asked = {"sketch_encoder": encoder_file}
    listed = [line(row=row) for row in (2, 4, 6, 8)]
    by_frame = clip_of(pipeline, sketches=dict(enumerate(listed)), **asked)
    assert torch.equal(clip_of(pipeline, sketches=listed, **asked), by_frame)
    assert torch.equal(clip_of(pipeline, sketches=dict(zip((-4, -3, -2, -1), listed, strict=True)), **asked), by_frame)


def test_a_file_with_a_prefix_is_the_same_encoder(pipeline: Pipeline, encoder_file: Path, tmp_path: Path) -> None:
    other = micro_sketch_encoder(tmp_path / "prefixed.safetensors", prefix="control_model.")
    one, two = (clip_of(pipeline, sketches={2: line()}, sketch_encoder=file) for file in (encoder_file, other))
    assert torch.equal(one, two)


def changed(source: Path, target: Path, change: Callable[[dict], dict]) -> Path:
    with safe_open(source, framework="pt") as file:
        state, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(change(state), target, metadata=metadata)
    return target


def test_files_that_do_not_fit_are_refused(model_of: ModelOf, encoder_file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="not ToonCrafter's sketch encoder, which is published on the Hugging Face hub"
    ):
        open_sketch_encoder(model_of(ANIMATE))
    short = changed(
        encoder_file,
        tmp_path / "short.safetensors",
        lambda s: {k: v for k, v in s.items() if k != "middle_block_out.0.bias"},
    )
    with pytest.raises(InputError, match=r"middle_block_out.0.bias is missing and should be \[64\]"):
        open_sketch_encoder(short)

    def coloured(state: dict) -> dict:
        key = "input_hint_block.0.weight"
        return {**state, key: state[key].repeat(1, 3, 1, 1)}

    with pytest.raises(InputError, match="reads 3 channels, and ToonCrafter's sketch encoder reads one"):
        open_sketch_encoder(changed(encoder_file, tmp_path / "colour.safetensors", coloured))
    config: Any = micro_configs(ANIMATE)["unet"]
    with pytest.raises(InputError, match="reads 2 pixels of a drawing for each latent pixel, .* makes 8 from it"):
        open_sketch_encoder(encoder_file).check_fits(config, 8)
    with pytest.raises(InputError, match="embedded|the model's UNet|autoencoder makes"):
        Pipeline("embedded").animate(picture(), sketches={0: line()}, sketch_encoder=str(encoder_file))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"sketches": {4: line()}, "sketch_encoder": "a"},
            "the frame of a drawing is 4; give a whole number from -4 to 3",
        ),
        ({"sketches": {1: line(), -3: line()}, "sketch_encoder": "a"}, "two of the drawings are at the same frame"),
        ({"sketches": {1: line()}}, "sketch encoder is missing; give its file, published as Doubiiu/ToonCrafter"),
        ({"sketch_encoder": "a"}, "sketches is missing; give both, or neither"),
        ({"sketch_plan": "free"}, "sketches is missing; give both, or neither"),
        ({"sketches": {1: line()}, "sketch_encoder": "gone.ckpt"}, "gone.ckpt does not exist"),
        (
            {"sketches": {1: line()}, "sketch_encoder": "a", "sketch_plan": "strength"},
            "the sketch plan holds 'strength'",
        ),
        ({"sketches": {1: line()}, "sketch_encoder": "a", "sketch_plan": "bold"}, "the sketch plan holds 'bold'"),
        (
            {"sketches": {1: line()}, "sketch_encoder": "a", "sketch_plan": "from 0.5, to 0.5"},
            "the end must come later",
        ),
        ({"sketches": {1: line()}, "sketch_encoder": "a", "sketch_plan": "strength 11"}, "sketch strength is 11.0"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(pipeline: Pipeline, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        clip_of(pipeline, **given)


def test_too_few_drawings_are_refused(pipeline: Pipeline, encoder_file: Path) -> None:
    with pytest.raises(InputError, match="sketches has 3 drawings for a clip of 4 frames"):
        clip_of(pipeline, sketches=[line()] * 3, sketch_encoder=encoder_file)
    with pytest.raises(InputError, match="sketches is given, and its frames belong to one clip"):
        pipeline.keyframes([], sketches={0: line()}, sketch_encoder=encoder_file)
    with pytest.raises(InputError, match="there is no key 'sketches'"):
        read_script({"shots": [{"image": "a.png", "sketches": ["a.png@1"]}]})


def test_the_plan_in_words() -> None:
    assert SketchPlan.read("") == SketchPlan()
    assert SketchPlan.read("strength 1, from 0.1, to 0.9, light, free") == SketchPlan(1.0, 0.1, 0.9, "light", "free")


def test_files_with_their_frames() -> None:
    assert read_places(["a.png@5", "dir/b@2x.png@-1"]) == {5: "a.png", -1: "dir/b@2x.png"}
    assert read_places(["drawings.mp4"]) == "drawings.mp4"
    with pytest.raises(InputError, match="sketch 'a.png' has no frame"):
        read_places(["a.png", "b.png@2"])
    with pytest.raises(InputError, match="two of the sketches are at the same frame"):
        read_places(["a.png@2", "b.png@2"])


def test_the_command_line_and_jobs_take_them(
    model_of: ModelOf, encoder_file: Path, tmp_path: Path, pipeline: Pipeline
) -> None:
    first, last, drawn = (tmp_path / f"{name}.png" for name in ("first", "last", "drawn"))
    for path, pixels in ((first, picture()), (last, picture(1)), (drawn, line())):
        Image.fromarray(pixels).save(path)
    out = tmp_path / "clip"
    asked = ["interpolate", str(first), str(last), "a cat", "-m", str(model_of(INTERPOLATE)), "-o", str(out), "--quiet"]
    asked += ["--steps", "2", "--frames", "4", "--seed", "5", "--cfg", "2"]
    asked += ["--sketch", f"{drawn}@2", "--sketch-encoder", str(encoder_file), "--sketch-plan", "strength 0.4, free"]
    assert main(asked) == 0
    plan = {"sketches": {2: drawn}, "sketch_encoder": encoder_file, "sketch_plan": "strength 0.4, free"}
    expected = clip_of(pipeline, **plan)
    shown = np.stack([np.asarray(Image.open(path)) for path in sorted(out.glob("*.png"))])
    assert np.array_equal(shown, expected.numpy())

    entry = {"image": "first.png", "last": "last.png", "sketches": ["drawn.png@2"], "sketch-encoder": str(encoder_file)}
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text(json.dumps({**entry, "sketch-plan": "free"}))
    (job,) = read_jobs(jobs)
    assert isinstance(job, Job) and job.options["sketches"] == {2: str(drawn)}
    assert str(drawn) in set(job.files())
    settings = settle(pipeline.family, "interpolate", "", {**job.options, "frames": 4}, None, 4)
    assert (settings.sketched, settings.sketch_plan.between) == ((2,), "free")
    before = job.fingerprint()
    Image.fromarray(line(row=9)).save(drawn)
    (again,) = read_jobs(jobs)
    assert isinstance(again, Job) and again.fingerprint() != before
    jobs.write_text(json.dumps({**entry, "sketches": ["gone.png@2"]}))
    (refused,) = read_jobs(jobs)
    assert isinstance(refused, Refused) and "gone.png does not exist" in refused.error


@pytest.mark.parametrize("name", ["videocrafter2_t2v_512", "t2v_turbo_vc2"])
def test_text_models_follow_drawings_too(name: str, model_of: ModelOf, encoder_file: Path) -> None:
    """The distilled one in its single pass."""
    pipeline = Pipeline(model_of(name))
    plain, drawn = (
        pipeline.generate("a cat", steps=2, frames=4, seed=5, **given).frames
        for given in ({}, {"sketches": {2: line()}, "sketch_encoder": encoder_file})
    )
    assert not torch.equal(plain, drawn)
