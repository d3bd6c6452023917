"""The process that does the trials of one surface, seed after seed; it may hang or die, for `runner` stands behind it.

It reads seeds from stdin, a line each, and answers each with a line of JSON. Whatever a trial prints goes elsewhere.
"""

import faulthandler
import importlib
import io
import json
import os
import sys
import tempfile
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from dynamicrafter_core.errors import InputError

from . import canary
from .guard import Guard, state_of
from .surface import LIMIT, Finding, Room, Surface, chance_of

MEMORY = 4 * 2**30  # bytes that a trial may ask for on top of what the process has
LONGEST = 2000  # characters of a refusal


def surface_at(place: str) -> Surface:
    """ "package.module:NAME" """
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def main(place: str, name: str) -> None:
    seeds, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", encoding="utf-8")
    # A trial that reads /dev/stdin takes no seed away, and what native code prints is no answer.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    faulthandler.enable()
    surface = surface_at(place)
    if surface.prepare is not None:
        surface.prepare()
    tempfile.tempdir = str(Path(name) / "room" / "out")
    _limit_memory()
    guard, room = Guard(), Room(Path(name) / "room")
    _answer(answers, {"ready": True})
    for line in seeds:
        faulthandler.dump_traceback_later(LIMIT - 0.5)  # where it hangs, for the report
        outcome, text = attempt(surface, int(line), room, guard)
        faulthandler.cancel_dump_traceback_later()
        _answer(answers, {"seed": int(line), "outcome": outcome, "text": text})


def attempt(surface: Surface, seed: int, room: Room, guard: Guard) -> tuple[str, str]:
    """("result" | "refused" | "finding", what it says)."""
    room.furnish()
    canary.calls.clear()
    heard = io.StringIO()
    outcome, text = "result", ""
    with redirect_stdout(heard), redirect_stderr(heard), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attempted = surface.make(chance_of(surface.name, seed), room)
        before = state_of(room.given) | state_of(room.outside)
        guard.begin(room.out)
        try:
            attempted()
        except InputError as error:
            outcome, text = "refused", str(error)
            if problem := unlike_a_sentence(text):
                outcome, text = "finding", f"the refusal {problem}: {text[:200]!r}"
        except Finding as error:
            outcome, text = "finding", str(error)
        except BaseException as error:
            outcome, text = "finding", told(error)
    notes = guard.end()
    if canary.calls:
        notes.append(f"runs code from the file ({canary.calls[0]!r})")
    if state_of(room.given) | state_of(room.outside) != before:
        notes.append("changes files outside the output folder")
    return ("finding", "; ".join(notes)) if notes else (outcome, text)


def unlike_a_sentence(text: str) -> str:
    if not text.isprintable():
        return "holds what does not print"
    if len(text) > LONGEST:
        return f"has {len(text)} characters"
    return "" if text.endswith(".") else "does not end as a sentence"


def told(error: BaseException) -> str:
    """The kind, the first line, and the innermost place of this project: the same for the same fault."""
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if "dynamicrafter_core" in frame.filename]
    where = f" in {Path(places[-1].filename).name}, line {places[-1].lineno}" if places else ""
    first = (str(error).splitlines() or [""])[0][:160]
    return f"{type(error).__name__}{where}: {first}"


def _answer(file: "io.TextIOBase", answer: dict[str, object]) -> None:
    file.write(json.dumps(answer) + "\n")
    file.flush()


def _limit_memory() -> None:
    try:
        import resource

        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    except (ImportError, OSError, ValueError):
        pass  # only Linux tells and limits


if __name__ == "__main__":
    main(*sys.argv[1:])
