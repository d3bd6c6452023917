"""The command line says everything in words that print, whatever it is given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import repository
from PIL import Image

from dynamicrafter_core.cli.main import main


def test_words_of_the_command_line_are_not_repeated_raw(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "a", "\x1b[31mred"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no file names that are no text")
def test_a_folder_whose_name_is_no_text_is_told_all_the_same(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    words = [sys.executable, "-m", "dynamicrafter_core", "inspect", os.fsencode(tmp_path) + b"/no\xe9t.ckpt"]
    environ = {**os.environ, "PYTHONUTF8": "1"}
    told = subprocess.run(words, cwd=repository.ROOT, capture_output=True, env=environ)
    assert told.returncode == 2
    assert rb"/no\udce9t.ckpt does not exist" in told.stderr


@pytest.mark.parametrize("words", [["inspect", "a" * 5000], ["train", "b" * 5000], ["batch", "c" * 5000, "-o", "out"]])
def test_a_name_too_long_for_the_system_does_not_exist(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert "[...]" in (said := capsys.readouterr().err)
    assert "does not exist" in said or "There is no recipe" in said


def test_an_output_folder_that_is_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("a.png")
    Path("out").touch()
    assert main(["batch", ".", "-o", "out"]) == 2
    assert "The folder out cannot be made" in capsys.readouterr().err
