"""Commands that write, in a form that takes a second, each with what its output folder may hold at any moment."""

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Victim:
    """`ways` are variants of the command, given the folders of its input and its output; each returns an exit status."""

    name: str
    furnish: Callable[[Path], object]
    ways: tuple[Callable[[Path, Path], int], ...]
    resumes: bool = False  # it goes on where it was stopped
    loose: Mapping[str, Callable[[Path], object]] = field(
        default_factory=dict
    )  # files that grow: read to see that they are whole


def digest(path: Path) -> str:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    parts = [
        f"{file.relative_to(path)} {hashlib.sha256(_sorted(file)).hexdigest()}" for file in files if file.is_file()
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sorted(file: Path) -> bytes:
    """A file's content; of safetensors with a sorted table of contents, which its library writes in any order."""
    content = file.read_bytes()
    if file.suffix != ".safetensors" or len(content) < 8:
        return content
    length = int.from_bytes(content[:8], "little")
    try:
        return json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True).encode() + content[8 + length :]
    except ValueError:
        return content


def visible(out: Path) -> list[Path]:
    return sorted(path for path in out.iterdir() if not path.name.startswith("."))


Known = Mapping[str, set[str]]  # name -> digests of what may stand there


def problem(victim: Victim, out: Path, known: Known) -> str:
    """What stands in the output folder and is not whole, in words; empty where all is."""
    for path in visible(out):
        if path.name in victim.loose:
            try:
                victim.loose[path.name](path)
            except Exception as error:
                return f"{path.name} is not whole ({type(error).__name__} {error})"
        elif digest(path) not in known.get(path.name, ()):
            return f"{path.name} is not whole: {path.stat().st_size} bytes, none of what runs in peace make"
    return ""


def start(act: Callable[[], int]) -> int:
    """A process of its own that does it, in which everything is imported already; its id. Its exit status is what `act` returns."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 99
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        status = act()
    finally:
        os._exit(status)


def wait(process: int, seconds: float = 600.0) -> int | None:
    """Its exit status; None where it still runs."""
    until = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


def in_peace(victim: Victim, given: Path, folder: Path) -> tuple[dict[str, set[str]], list[float]]:
    """What each way makes when nothing disturbs it, and the seconds it takes."""
    known: dict[str, set[str]] = {}
    seconds = []
    for number, way in enumerate(victim.ways):
        out = folder / str(number)
        out.mkdir(parents=True)
        begun = time.monotonic()
        status = wait(start(lambda way=way, out=out: way(given, out)))  # type: ignore[misc]
        if status != 0:
            raise RuntimeError(f"{victim.name} ends with status {status} in peace")
        seconds.append(time.monotonic() - begun)
        for path in visible(out):
            known.setdefault(path.name, set()).add(digest(path))
    return known, seconds


def import_all() -> None:
    """Before any process is forked: it is the work that is to be disturbed, not the start."""
    import av  # noqa: F401
    import kornia  # noqa: F401
    import open_clip  # noqa: F401
    import torch
    import tqdm  # noqa: F401
    from PIL import Image

    import dynamicrafter_core.batch.render
    import dynamicrafter_core.batch.report
    import dynamicrafter_core.cli.commands
    import dynamicrafter_core.film.film
    import dynamicrafter_core.training.trainer  # noqa: F401

    Image.init()
    torch.set_num_threads(1)  # a pool of threads would not live in a forked process


def _command(*words: str) -> int:
    from dynamicrafter_core.cli.main import main

    return main([*words, "--quiet"])


def _checkpoint(given: Path) -> None:
    from .checkpoints import family_file, family_header

    header = family_header()
    size = max(entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__")
    (given / "unet.safetensors").write_bytes(family_file(header, size))


def _convert(dtype: str, layout: str) -> Callable[[Path, Path], int]:
    def way(given: Path, out: Path) -> int:
        return _command(
            "convert",
            str(given / "unet.safetensors"),
            str(out / "new.safetensors"),
            "--dtype",
            dtype,
            "--layout",
            layout,
            "--overwrite",
        )

    return way


def _save(seed: int) -> Callable[[Path, Path], int]:
    def way(given: Path, out: Path) -> int:
        import numpy as np

        from dynamicrafter_core.errors import InputError
        from dynamicrafter_core.media.saving import save_clip

        frames = np.random.default_rng(seed).integers(0, 256, (8 + seed, 64, 64, 3), np.uint8)
        try:
            for name in ("clip.mp4", "clip.gif", "clip.png", "clip"):
                save_clip(frames, out / name, 8, {"seed": seed})
        except InputError:
            return 2
        return 0

    return way


def _jobs(given: Path) -> None:
    from PIL import Image

    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(given / "a.png")
    jobs = [
        {"image": "a.png", "steps": 1, "size": "64x64", "frames": 2, "seed": seed, "format": kind}
        for seed, kind in enumerate(("mp4", "gif", "png", "mp4"))
    ]
    (given / "jobs.jsonl").write_text("".join(f"{json.dumps(job)}\n" for job in jobs))


def _story(given: Path) -> None:
    from PIL import Image

    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(given / "a.png")
    shots = ("a.png | zoom in | 1 s | dissolve", "a.png | it gets dark | 1 s | continue", "| zoom out | 1 s")
    (given / "story.txt").write_text("size: 64x64\nsteps: 1\n" + "\n".join(shots))


def _takes(folder: Path) -> None:
    for path in folder.glob("[!.]*"):
        _reads(path)


def _recipe(given: Path) -> None:
    from .recipes import RIGHT

    (given / "recipe.json").write_text(
        json.dumps({**RIGHT, "save_seconds": 0, "evaluate_every": 1000, "evaluate_clips": 1, "sample_steps": 1})
    )


def _reads(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _lines(path: Path) -> None:
    *whole, last = path.read_text().split("\n")
    for line in whole:
        json.loads(line)
    with contextlib.suppress(ValueError):  # a log may end in a line that was cut
        json.loads(last)


def _page(path: Path) -> None:
    if not path.read_text().rstrip().endswith(">"):
        raise ValueError("it ends within a tag")


VICTIMS = {
    "convert": Victim(
        "convert", _checkpoint, (_convert("fp16", "whole"), _convert("fp32", "whole"), _convert("bf16", "split"))
    ),
    "save": Victim("save", lambda given: None, (_save(0), _save(1))),
    "batch": Victim(
        "batch",
        _jobs,
        (lambda given, out: _command("batch", str(given / "jobs.jsonl"), "-o", str(out), "--device", "cpu"),),
        resumes=True,
        loose={"results.jsonl": _lines, "report.html": _page},
    ),
    "film": Victim(
        "film",
        _story,
        (
            lambda given, out: _command(
                "film", str(given / "story.txt"), "-o", str(out / "film.mp4"), "--device", "cpu"
            ),
        ),
        resumes=True,
        loose={"film.takes": _takes},
    ),
    "train": Victim(
        "train",
        _recipe,
        (lambda given, out: _command("train", str(given / "recipe.json"), "-o", str(out), "--device", "cpu"),),
        resumes=True,
        loose={"log.jsonl": _lines, "report.html": _page, "state.safetensors": _reads, "so-far.safetensors": _reads},
    ),
}
