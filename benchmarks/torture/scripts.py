"""Scripts of films, as text and as JSON: wrong in their structure, their keys and their values, read and planned into takes."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from dynamicrafter_core.film.script import FILM_KEYS, SHOT_KEYS, TRANSITIONS, read_script
from dynamicrafter_core.film.takes import Means, plan

from .mutation import altered, damaged, name, number, text, value
from .surface import Finding, Room, Surface

MEANS = Means("a model", ("animate", "interpolate"), 16, 8.0, True)


def right_shot(chance: Random) -> dict[str, Any]:
    shot: dict[str, Any] = {"image": "a.png", "prompt": "waves"}
    if chance.random() < 0.5:
        shot["seconds"] = chance.choice((0, 0.5, 2, 7.3))
    if chance.random() < 0.5:
        shot["transition"] = chance.choice(TRANSITIONS)
    if chance.random() < 0.2:
        shot["transition_seconds"] = chance.choice((0.25, 1))
    return shot


def right_film(chance: Random) -> dict[str, Any]:
    film: dict[str, Any] = {"shots": [right_shot(chance) for _ in range(chance.randrange(1, 5))]}
    film["shots"][-1].pop("transition", None)
    return film | ({"size": "64x64", "seed": 3} if chance.random() < 0.5 else {})


def wrong_film(chance: Random) -> Any:
    film = right_film(chance)
    for _ in range(chance.choice((0, 1, 1, 2))):
        shot = chance.choice(film["shots"])
        match chance.randrange(5):
            case 0:
                shot[chance.choice(SHOT_KEYS)] = value(chance)
            case 1:
                shot[chance.choice(("seconds", "transition_seconds", "seed", "steps", "window"))] = number(chance)
            case 2:
                film[chance.choice(FILM_KEYS)] = value(chance)
            case 3:
                shot["image"] = name(chance)
            case _:
                return altered(film, chance)
    return film


def in_lines(chance: Random) -> str:
    """As text, in which any field may be anything."""
    lines = [f"{key}: {number(chance)}" for key in chance.sample(FILM_KEYS, chance.choice((0, 0, 1, 2)))]
    for _ in range(chance.randrange(1, 5)):
        fields = ["a.png", "waves", "2 s", chance.choice(TRANSITIONS)][: chance.randrange(1, 5)]
        if chance.random() < 0.5:
            odd = (
                text(chance),
                name(chance),
                f"{number(chance)} s",
                f"dissolve {number(chance)} s",
                f"seed {value(chance)}",
            )
            fields[chance.randrange(len(fields))] = chance.choice(odd)
        lines.append(" | ".join(fields))
    return "\n".join(lines)


def make_script(chance: Random, room: Room) -> Callable[[], object]:
    (room.given / "a.png").write_bytes(b"")  # a script is checked before its pictures are opened
    if chance.random() < 0.5:
        suffix, content = ".txt", in_lines(chance).encode("utf-8", "replace")
    else:
        suffix, content = ".json", json.dumps(wrong_film(chance)).encode("utf-8", "replace")
    path = room.given / f"story{suffix}"
    path.write_bytes(damaged(content, chance) if chance.random() < 0.2 else content)

    def attempt() -> int:
        takes = plan(read_script(path), MEANS)
        if not all(0 < take.frames <= max(take.made, take.frames * (take.kind == "morph")) for take in takes):
            raise Finding(f"takes of {[take.frames for take in takes][:9]} frames")
        return len(takes)

    return attempt


SCRIPTS = Surface("scripts", "film scripts, as text and JSON: wrong structure, keys, numbers and names", make_script)
