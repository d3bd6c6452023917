"""Which ComfyUI the host tests run in; one thread a process; and that pytest leaves the pack's own `__init__.py` alone."""

import os
from pathlib import Path

import hosts
import pytest

# Before torch is imported. The models here are so small that threads wait for each other: six times the work on two busy cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-host", action="store_true", help="skip the tests that need ComfyUI, instead of failing them")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RootIsNoPackage())


class RootIsNoPackage:
    """The repository root has an `__init__.py` for the host to import; pytest would import it before every test."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == hosts.ROOT else None


@pytest.fixture(scope="session")
def host_path(pytestconfig: pytest.Config) -> Path:
    """The folder of the real ComfyUI: COMFYUI_PATH, else the one this pack is installed in, else the newest one fetched."""
    if pytestconfig.getoption("--no-host"):
        pytest.skip("--no-host was given")
    try:
        return hosts.find_host()
    except hosts.HostError as error:
        pytest.fail(str(error), pytrace=False)
