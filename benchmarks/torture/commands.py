"""The command line: every option of every command there is, with right values, wrong ones, and ones that are no values at all."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Any

from dynamicrafter_core.cli.main import main, make_parser
from dynamicrafter_core.errors import InputError

from .mutation import NUMBERS, name, number, text
from .stubs import Accepted, without_networks
from .surface import Finding, Room, Surface

RIGHT: dict[str, tuple[str, ...]] = {  # an option's good values, by its name
    "image": ("../given/a.png", "../given/b.jpg"),
    "last": ("../given/b.jpg",),
    "video": ("../given/a.gif", "../given/folder"),
    "prompt": ("waves", ""),
    "negative": ("blurry",),
    "model": ("embedded",),
    "variant": ("auto", "dynamicrafter_512", "tooncrafter_512"),
    "device": ("cpu", "auto"),
    "dtype": ("fp32", "auto", "bf16", "keep"),
    "out": ("clip.mp4", "clip.gif", "clip.png", "clip", "link.gif", "folder"),
    "size": ("64x64", "128x64", "64X64"),
    "frames": ("4", "2", "1"),
    "window": ("2",),
    "overlap": ("1",),
    "fuse": ("flat",),
    "stride": ("2",),
    "then": ("fire",),
    "fps": ("8",),
    "seed": ("1",),
    "steps": ("1", "2"),
    "cfg": ("2",),
    "cfg_image": ("2",),
    "context_strength": ("1",),
    "fit": ("pad", "stretch"),
    "fs": ("3",),
    "motion": ("middle 2", "temperature 0.8"),
    "eta": ("1",),
    "rescale": ("0.5",),
    "spacing": ("uniform",),
    "start_step": ("940",),
    "noise": ("mixed 1", "residual 0.5"),
    "noise_path": ("pan 0.25 0",),
    "freeinit": ("1",),
    "strength": ("0.5",),
    "mask": ("../given/a.png",),
    "camera": ("orbit left", "pan right + zoom in", "1: yaw 10, z 0.2"),
    "guide": ("../given/folder", "../given/a.gif"),
    "depth": ("../given/a.png",),
    "depth_kind": ("distance",),
    "depth_range": ("4",),
    "field_of_view": ("60",),
    "easing": ("linear",),
    "amount": ("0.5",),
    "keep": ("1", "2"),
    "source": ("../given/small.safetensors",),
    "first": ("../given/small.safetensors",),
    "second": ("../given/small.safetensors",),
    "target": ("new.safetensors", "link.safetensors", "../given/small.safetensors"),
    "layout": ("whole", "pruned", "split"),
    "spatial": ("0.5",),
    "file": ("../given/small.safetensors", "../given/a.png"),
    "jobs": ("../given/jobs.jsonl", "../given"),
    "settings": ("steps=1", "size=64x64", "seed=3"),
    "recipe": ("../given/recipe.json", "tiny"),
    "output": ("run",),
    "minutes": ("0",),
}
WRITTEN = ("out", "output", "target")  # where these lead is the user's own wish
OWN = ("link", "folder", "/dev/null", "no\udce9t.png", ".", "", "link/x.gif", "none/x.gif")
FILES = (
    "../given/nothing",
    "../given",
    "../given/text.txt",
    "../given/empty",
    "link",
    "../given/no\udce9t.png",
    "/dev/null",
    "../given/cut.png",
)


@lru_cache
def actions_of(command: str) -> tuple[argparse.Action, ...]:
    commands = next(action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    parser = commands.choices[command]
    return tuple(action for action in parser._actions if action.dest not in ("help", "ray"))


@lru_cache
def command_names() -> tuple[str, ...]:
    commands = next(action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return tuple(commands.choices)


def furnish(room: Room) -> None:
    """Pictures, a clip, a small checkpoint, jobs; and in the output folder links that lead out of it."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    for file in ("a.png", "b.jpg"):
        Image.radial_gradient("L").resize((64, 48)).convert("RGB").save(room.given / file)
    frames = [Image.new("RGB", (64, 64), (40 * i, 0, 0)) for i in range(4)]
    frames[0].save(room.given / "a.gif", save_all=True, append_images=frames[1:])
    (room.given / "folder").mkdir()
    for i, frame in enumerate(frames):
        frame.save(room.given / "folder" / f"{i}.png")
    (room.given / "cut.png").write_bytes((room.given / "a.png").read_bytes()[:200])
    (room.given / "text.txt").write_text("text")
    (room.given / "empty").touch()
    (room.given / "jobs.jsonl").write_text('{"image": "a.png", "steps": 1, "size": "64x64", "frames": 2}\n')
    (room.given / "recipe.json").write_text('{"name": "r", "seed": 1, "family": "dynamicrafter_512", "stages": []}')
    save_file({"latents": torch.zeros(1, 2, 4), "proj_in.weight": torch.zeros(4, 4)}, room.given / "small.safetensors")
    (room.out / "folder").mkdir()
    for link in ("link", "link.gif", "link.safetensors", ".lock", "results.jsonl", "0001-a.mp4"):
        (room.out / link).symlink_to(room.victim)


def make_words(chance: Random, room: Room) -> Callable[[], object]:
    furnish(room)
    command = chance.choice(command_names())
    words = [command]
    required, optional = [], []
    for action in actions_of(command):
        (optional if action.option_strings else required).append(action)
    both = [*required, *optional]
    wrong = {id(action) for action in chance.sample(both, min(len(both), chance.choice((0, 1, 1, 2, 4))))}
    for action in required:
        words.append(wrong_value(action, chance) if id(action) in wrong else right_value(action, chance))
    chosen = [action for action in optional if id(action) in wrong or chance.random() < 0.15 or action.dest in NEEDED]
    chance.shuffle(chosen)
    for action in chosen:
        words.append(chance.choice(action.option_strings))
        if action.nargs != 0:
            words.append(wrong_value(action, chance) if id(action) in wrong else right_value(action, chance))
    if chance.random() < 0.05:
        words = [name(chance) for _ in range(chance.randrange(3))] + words[chance.randrange(len(words)) :]
    return lambda: run(words, room)


NEEDED = ("out", "output", "steps", "size", "frames")


def right_value(action: argparse.Action, chance: Random) -> str:
    return chance.choice(RIGHT.get(action.dest, ("1",)))


def wrong_value(action: argparse.Action, chance: Random) -> str:
    kind = chance.randrange(4)
    if kind == 0 or action.type is not None:
        return chance.choice((str(chance.choice(NUMBERS)), str(number(chance)), text(chance)))
    if kind == 1:
        return chance.choice(OWN if action.dest in WRITTEN else FILES)
    if kind == 2 and action.dest not in WRITTEN:
        return name(chance)
    return altered_text(right_value(action, chance), chance) if chance.random() < 0.5 else text(chance)


def altered_text(right: str, chance: Random) -> str:
    place = chance.randrange(len(right) + 1)
    return (
        right[:place]
        + chance.choice((text(chance), right, "", ",", " ", ":", "=", "-1", "nan", "1e999"))
        + right[place + chance.randrange(3) :]
    )


def run(words: list[str], room: Room) -> None:
    """As a terminal would: no word of a system's arguments holds a zero, and what is not UTF-8 is a surrogate of the lower half."""
    given = [
        os.fsdecode(word.replace("\0", "").encode("utf-8", "surrogateescape" if fit(word) else "replace"))
        for word in words
    ]
    status, said = at_terminal(lambda: main(given), room)
    if "Traceback" in said or status not in (0, 1, 2, 3):
        raise Finding(f"ends with status {status} and {said[-200:]!r}")
    if status == 2:  # what the batch says of single jobs may stand before it
        raise InputError(said.strip().splitlines()[-1])


def fit(word: str) -> bool:
    try:
        word.encode("utf-8", "surrogateescape")
        return True
    except UnicodeEncodeError:
        return False


def at_terminal(act: Callable[[], Any], room: Room) -> tuple[Any, str]:
    """What it returns, and what stands on stderr, which takes no character that UTF-8 lacks."""
    held = io.BytesIO()
    written = io.TextIOWrapper(held, encoding="utf-8", errors="backslashreplace", write_through=True)
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)
    os.chdir(room.out)  # and no way back: what ends a run early is closed later
    with without_networks(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(written):
        try:
            status = act()
        except Accepted:
            status = 0
    return status, held.getvalue().decode()


def prepare() -> None:
    """Everything that is imported late, before the memory is limited and the clock runs."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        room = Room(Path(folder) / "room")
        room.furnish()
        furnish(room)
        words = [
            "animate",
            "../given/a.png",
            "x",
            "--steps",
            "1",
            "--size",
            "64x64",
            "--frames",
            "2",
            "-o",
            "new.mp4",
            "-o",
            "new.gif",
        ]
        status, said = at_terminal(lambda: main(words), room)
        assert status == 0, said
        at_terminal(lambda: main(["train", "tiny", "--minutes", "0", "-o", "run"]), room)
        sys.stderr.write(said)


COMMANDS = Surface(
    "cli",
    "every option of every command: wrong numbers, names, text and files; symlinks in the output folder",
    make_words,
    prepare,
)
