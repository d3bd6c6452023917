"""Controls meet each other: every pair works or is refused in a sentence, as docs/control.md says.

WRITE_DOCS=1 make test ARGS="tests/core/test_pairs.py"    writes that table
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import repository
from pairs import CONTROLS, load, refused, table, try_all

pytestmark = pytest.mark.slow

DOCUMENT = repository.ROOT / "docs" / "control.md"
START, END = "<!-- pairs -->\n", "<!-- end of pairs -->"


@pytest.mark.parametrize("control", CONTROLS)
def test_each_control_works_alone(model_of: Callable[[str], Path], control: str) -> None:
    assert refused(load(model_of), control) == ""


def test_every_pair_makes_a_clip_or_is_refused_in_a_sentence(model_of: Callable[[str], Path]) -> None:
    said = try_all(load(model_of))
    assert all(answer.endswith(".") and ";" in answer for answer in said.values() if answer)
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(START)
    written, after = rest.split(END)
    if os.environ.get("WRITE_DOCS"):
        written = table(said)
        DOCUMENT.write_text(f"{before}{START}{written}{END}{after}", encoding="utf-8")
    assert written == table(said)
