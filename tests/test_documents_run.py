"""Every command and every piece of Python in the documents for users, run as it stands: small models, a small size, one step."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import repository
from PIL import Image
from tiny import tiny_checkpoint

import dynamicrafter_core
from dynamicrafter_core.cli.main import main
from dynamicrafter_core.media.saving import save_clip

TEXT = "".join((repository.ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/library.md"))
COMMANDS = list(dict.fromkeys(re.findall(r"^    (dynamicrafter .+)$", TEXT, re.M)))
PYTHON = re.findall(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)
QUICK = {
    **dict.fromkeys(
        ("animate", "interpolate", "loop", "generate", "fly", "extend", "keyframes"),
        ["--size", "64x64", "--steps", "1", "--quiet"],
    ),
    "film": ["--set", "steps=1", "--takes", "photo.takes"],
    "analyse": ["--size", "64x64", "--steps", "1", "--quiet"],
    "train": ["--minutes", "0.01", "--quiet"],
}
MODELS = {
    "dynamicrafter_512.ckpt": "dynamicrafter_512",
    "dynamicrafter_512_interp.ckpt": "dynamicrafter_512_interp",
    "videocrafter2.ckpt": "videocrafter2_t2v_512",
    "ViewCrafter_25.ckpt": "viewcrafter_25",
    "model.safetensors": "dynamicrafter_1024",
    "model.ckpt": "dynamicrafter_512",
}

WITHOUT_O = {
    "animate": {"photo-animate.mp4"},
    "interpolate": {"first-interpolate.mp4"},
    "generate": {"clip-generate.mp4"},
    "fly": {"photo-fly.mp4"},
    "inspect": set(),
    "convert": {"model_fp16.safetensors"},
    "merge": {"merged.safetensors"},
}

pytestmark = pytest.mark.slow


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[], set[str]]]:
    """Makes the files that a text names, and tells which others have come since."""
    monkeypatch.chdir(tmp_path)

    def make(text: str) -> Callable[[], set[str]]:
        for name, variant in MODELS.items():
            if re.search(rf"[ \"]{re.escape(name)}", text):
                tiny_checkpoint(name, variant)
        for name in re.findall(r"\w+\.(?:jpg|png)", text):
            if f"-o {name}" not in text:
                Image.radial_gradient("L").convert("RGB").save(name)
        for name in re.findall(r"[\w-]+\.mp4", text):
            if text.startswith("dynamicrafter extend") and f"-o {name}" not in text:
                save_clip(np.zeros((2, 64, 64, 3), np.uint8), name, fps=8)
        if "jobs.jsonl" in text:
            Image.radial_gradient("L").convert("RGB").save("photo.jpg")
            Path("jobs.jsonl").write_text('{"image": "photo.jpg", "steps": 1}')
        if "story.txt" in text:
            Image.radial_gradient("L").convert("RGB").save("photo.jpg")
            Path("photo.takes").mkdir()
            Path("story.txt").write_text("size: 64x64\n\nphoto.jpg | zoom in | 1 s")
        given = set(tmp_path.iterdir())
        return lambda: {path.name for path in set(tmp_path.iterdir()) - given}

    return make


@pytest.mark.parametrize("command", COMMANDS)
def test_command_does_what_it_says(command: str, files: Callable[[str], Callable[[], set[str]]]) -> None:
    new = files(command)
    words = shlex.split(command)[1:]
    done = main([*words, *QUICK.get(words[0], [])])
    assert done == (3 if words[0] == "train" else 0)  # 3: stopped in time, to be resumed
    named = {words[place + 1] for place, word in enumerate(words) if word == "-o"}
    if words[0] == "analyse":
        named = {f"{name}-lambda{suffix}" for name in named for suffix in (".png", ".json")}
    assert new() == (named or WITHOUT_O[words[0]])


@pytest.mark.parametrize("block", PYTHON)
def test_python_does_what_it_says(
    block: str, files: Callable[[str], Callable[[], set[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = files(block)

    class Quick(dynamicrafter_core.Pipeline):
        def _run(self, mode: Any, prompt: str, sources: Any, options: Any) -> Any:
            return super()._run(mode, prompt, sources, {**options, "steps": 1, "width": 64, "height": 64})

    monkeypatch.setattr(dynamicrafter_core, "Pipeline", Quick)
    scope: dict[str, Any] = {}
    exec(block, scope)  # noqa: S102 - our own documents
    assert tuple(scope["clip"].frames.shape) == (16, 64, 64, 3)
    assert new() == set(re.findall(r"save\(\"(.+?)\"\)", block))


def test_the_documents_batch_makes_its_clips(files: Callable[[str], Callable[[], set[str]]]) -> None:
    text = (repository.ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) if "render" in block]
    new = files(block)
    exec(block.replace('"steps": 25', '"steps": 1'), {})  # noqa: S102 - our own document
    assert new() == {"out"} and {path.name for path in Path("out").glob("*")} == {
        f"000{n}-photo.mp4" for n in (1, 2, 3)
    }


def test_the_documents_jobs_are_jobs(files: Callable[[str], Callable[[], set[str]]]) -> None:
    text = (repository.ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    listed = re.findall(r"^    (\{.+\})$", text, re.M)
    files(" ".join(f" {word}" for word in re.findall(r"[\w.]+\.(?:jpg|png|ckpt)", " ".join(listed))))
    Path("jobs.jsonl").write_text("\n".join(listed))
    assert len(listed) == 3
    assert main(["batch", "jobs.jsonl", "-o", "out", "--check"]) == 0


def test_the_documents_keys_are_all_there_are() -> None:
    from dynamicrafter_core.batch.jobs import KEYS
    from dynamicrafter_core.pipeline.options import SHORT_NAMES

    text = (repository.ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    listed = {
        word.replace("-", "_")
        for row in re.findall(r"^\| (`.+?) \|", text, re.M)
        for word in re.findall(r"`([\w-]+)`", row)
    }
    size = {"width", "height"}
    assert listed | size == set(KEYS) - set(SHORT_NAMES.values())


def test_the_documents_edits_are_made(
    files: Callable[[str], Callable[[], set[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of one page, one after another; each that names a clip makes one of the frames it says."""
    text = (repository.ROOT / "docs" / "editing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    files("".join(blocks))
    save_clip(np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8), "boat.mp4", fps=8)

    class Quick(dynamicrafter_core.Pipeline):
        def _run(self, mode: Any, prompt: str, sources: Any, options: Any, *more: Any, **named: Any) -> Any:
            small = {"steps": 1, "width": 64, "height": 64}
            if options.get("width"):
                small |= {"width": 128, "height": 128}
            return super()._run(mode, prompt, sources, {**options, **small}, *more, **named)

    monkeypatch.setattr(dynamicrafter_core, "Pipeline", Quick)
    scope: dict[str, Any] = {}
    made = []
    for block in blocks:
        scope.pop("clip", None)
        exec(block.replace("(128, 128)", "(16, 16)").replace("128:-128", "16:-16"), scope)  # noqa: S102 - our own document
        made.append(tuple(scope["clip"].frames.shape[:3]) if "clip" in scope else None)
    small, large = (16, 64, 64), (16, 128, 128)
    assert made == [None, small, large, small, small, None, small, (15, 64, 64)]
    assert len(scope["whole"]) == 15 + 16 + 15


def test_the_documents_film_is_made(files: Callable[[str], Callable[[], set[str]]]) -> None:
    text = (repository.ROOT / "docs" / "film.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    new = files(block)
    Path("story.txt").write_text("steps: 1\n" + Path("story.txt").read_text())
    exec(block, {})  # noqa: S102 - our own document
    assert new() == {"film.mp4", "film.takes"}


def test_the_documents_scripts_say_the_same_and_fit_the_schema(files: Callable[[str], Callable[[], set[str]]]) -> None:
    from dynamicrafter_core.film.script import FILM_KEYS, SHOT_KEYS, TRANSITIONS, read_script

    text = (repository.ROOT / "docs" / "film.md").read_text(encoding="utf-8")
    lines = re.findall(r"^```text\n(.*?)^```$", text, re.M | re.S)[0]
    data, schema = (json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.M | re.S))
    files(lines)
    Path("lines.txt").write_text(lines)
    Path("data.json").write_text(json.dumps(data))
    told = [read_script(name) for name in ("lines.txt", "data.json")]
    shots = [[{**vars(shot), "where": ""} for shot in script.shots] for script in told]
    assert shots[0] == shots[1] and told[0].options == told[1].options
    shot = schema["properties"]["shots"]["items"]["properties"]
    assert set(schema["properties"]) - {"shots"} <= set(FILM_KEYS) and set(shot) <= set(SHOT_KEYS)
    assert shot["transition"]["enum"] == list(TRANSITIONS)
    assert set(data["shots"][0]) <= set(shot)
