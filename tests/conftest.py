"""Which ComfyUI the host tests run in."""

from pathlib import Path

import hosts
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-host", action="store_true", help="skip the tests that need ComfyUI, instead of failing them")


@pytest.fixture(scope="session")
def host_path(pytestconfig: pytest.Config) -> Path:
    """The folder of the real ComfyUI: COMFYUI_PATH, else the one this pack is installed in, else the newest one fetched."""
    if pytestconfig.getoption("--no-host"):
        pytest.skip("--no-host was given")
    try:
        return hosts.find_host()
    except hosts.HostError as error:
        pytest.fail(str(error), pytrace=False)
