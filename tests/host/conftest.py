"""Makes the host importable. Its modules are imported inside tests and fixtures, never when a test file is read."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def importable_host(host_path: Path) -> Iterator[None]:
    """First on sys.path, so that `nodes` is the host's module; and no test here runs without a host."""
    sys.path.insert(0, str(host_path))
    yield
    sys.path.remove(str(host_path))
