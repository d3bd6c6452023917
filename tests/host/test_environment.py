"""The host itself, before anything of ours is in it: if these fail, the environment is wrong and not the pack."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement


def test_every_requirement_of_this_host_is_met_here(host_path: Path) -> None:
    lines = [line.split("#")[0].strip() for line in (host_path / "requirements.txt").read_text().splitlines()]
    unmet = []
    for requirement in map(Requirement, filter(None, lines)):
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = "nothing"
        if version == "nothing" or not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{requirement}: {version} is installed")
    assert not unmet


@pytest.mark.slow
def test_host_starts_with_all_its_own_nodes(host_path: Path, tmp_path: Path) -> None:
    (tmp_path / "custom_nodes").mkdir()
    command = [sys.executable, host_path / "main.py", "--cpu", "--quick-test-for-ci", "--base-directory", tmp_path]
    started = subprocess.run(
        [*command, "--database-url", "sqlite:///:memory:"], capture_output=True, text=True, timeout=300
    )
    log = started.stdout + started.stderr
    assert started.returncode == 0, log
    assert not re.findall(r"(?im)^.*(?:traceback|import failed|lower than the recommended).*$", log)
