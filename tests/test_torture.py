"""The short form of `make torture`: every surface with fixed seeds. And torture finds the faults that were planted for it."""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import repository

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, links and limits are a POSIX system's here")
SECONDS = 0.7  # a surface
SURFACES = (
    "safetensors",
    "pickle",
    "pictures",
    "settings",
    "videos",
    "data",
    "cli",
    "jobs",
    "scripts",
    "words",
    "options",
    "prompts",
    "weights",
    "recipes",
)


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.syspath_prepend(str(repository.ROOT))  # no longer than here: the host has a module `nodes` of its own
    from benchmarks.torture.runner import drive

    return drive


@pytest.mark.slow
@pytest.mark.parametrize("name", SURFACES)
def test_what_comes_from_outside_gives_a_result_or_a_sentence(name: str, drive: Callable) -> None:
    from benchmarks.torture.__main__ import FUZZERS

    tally = drive(FUZZERS[name], range(200), SECONDS)
    assert [f"--seed {found.seed}: {found.text}" for found in tally.distinct] == []
    assert tally.tried > 0


def test_every_surface_has_its_short_form(drive: Callable) -> None:
    from benchmarks.torture.__main__ import FUZZERS

    assert tuple(FUZZERS) == SURFACES


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("CRASH", "ends the process with status -11"),
        ("ERROR", "KeyError"),
        ("WRONG", "the result is wrong"),
        ("NO_SENTENCE", "the refusal does not end as a sentence"),
        ("WRITE", "changes a file outside the output folder"),
        ("NATIVE_WRITE", "changes files outside the output folder"),
        ("LINKED_WRITE", "changes a file outside the output folder"),
        ("PROCESS", "starts a process"),
        ("CODE", "runs code from the file"),
        ("MEMORY", "MemoryError"),
    ],
)
def test_a_planted_fault_is_found(fault: str, told: str, drive: Callable) -> None:
    from benchmarks.torture.surface import chance_of
    from tests.planted import outcome_of

    expected = {seed: outcome_of(chance_of("planted", seed)) for seed in range(6)}
    assert set(expected.values()) == {"finding", "refused", "result"}
    tally = drive(f"tests.planted:{fault}", expected, 60.0)
    assert tally.outcomes == Counter(expected.values())
    assert [found.seed for found in tally.found] == [seed for seed, outcome in expected.items() if outcome == "finding"]
    assert all(found.text.startswith(told) for found in tally.found), tally.found


@pytest.mark.slow
def test_a_probe_that_changes_nothing_is_no_finding(drive: Callable) -> None:
    tally = drive("tests.planted:HARMLESS", range(6), 60.0)
    assert tally.found == [] and tally.tried == 6


@pytest.mark.slow
def test_a_planted_hang_is_found(drive: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from benchmarks.torture import runner

    monkeypatch.setattr(runner, "LIMIT", 1.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tally = drive("tests.planted:HANG", range(6), 60.0)
    assert {found.text for found in tally.found} == {"hangs for more than 1 s"}
    assert 0 < len(tally.found) < tally.tried == 6
    assert list(tmp_path.iterdir()) == []  # whom it kills leaves nothing behind


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
def test_what_is_killed_leaves_nothing_half_written() -> None:
    words = [sys.executable, "-m", "benchmarks.torture", "kill-convert", "kill-save", "--kills", "4"]
    told = subprocess.run(words, cwd=repository.ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    rows = [line.split(" | ") for line in told.stdout.splitlines()[2:]]
    assert [(row[0].strip("| "), row[3:]) for row in rows] == [
        ("kill-convert", ["4", "4", "0", "0 |"]),
        ("kill-save", ["4", "4", "0", "0 |"]),
    ]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")
def test_planted_halves_are_found() -> None:
    code = """
from pathlib import Path
import tempfile
from benchmarks.torture import disk, kills, victims
from tests import planted
victims.VICTIMS["half"] = planted.HALF_WRITTEN
tally = kills.kill_often("half", 6, 0, lambda found: None)
assert len(tally.found) >= 3 and "model.bin is not whole" in tally.found[0].text, tally
out = Path(tempfile.mkdtemp())
status = victims.wait(victims.start(lambda: planted.LEAVES_BEHIND.ways[0](out, out)))
assert disk.judged(planted.LEAVES_BEHIND, out, {}, status) == ("finding", ".model.part is left behind")
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=repository.ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_a_wrong_report_of_a_batch_is_found(drive: Callable, tmp_path: Path) -> None:
    from benchmarks.torture.cluster import wrong_report
    from dynamicrafter_core.batch.report import Report
    from dynamicrafter_core.batch.result import Result

    def write(*results: Result) -> None:
        report = Report(tmp_path, 3)
        report.results = dict(enumerate(results))
        report.write()

    good = [Result(number, f"n{number}", "", "made", tmp_path / f"n{number}.mp4") for number in range(2)]
    bad = Result(2, "bad", "", "failed", error="steps is 0; give 1 or more.")
    for result in good:
        (tmp_path / f"{result.name}.mp4").touch()
    write(*good, bad)
    assert wrong_report(tmp_path, ["n0", "n1"], ["bad"]) == []
    assert wrong_report(tmp_path, ["n0", "n1", "n2"], ["bad"])[0] == "results.jsonl does not have each job once"
    write(*good, good[0])
    assert "results.jsonl does not have each job once" in wrong_report(tmp_path, ["n0", "n1"], [])
    assert "report.html does not show each clip once" in wrong_report(tmp_path, ["n0", "n1"], [])
    write(*good, bad)
    (tmp_path / ".n0.mp4.part").touch()
    assert wrong_report(tmp_path, ["n0", "n1"], ["bad"]) == ["there is another file in the output folder"]
