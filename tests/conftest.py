"""Which ComfyUI the host tests run in; one thread a process; and that pytest leaves the pack's own `__init__.py` alone."""

import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

import hosts
import pytest

# Before torch is imported. The models here are so small that threads wait for each other: six times the work on two busy cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Begun first, so that at the end no process runs one of them while the others wait.
LONG_FILES = (
    "test_model_nodes.py",
    "test_benchmarks.py",
    "test_training_improves.py",
    "test_embedded.py",
    "test_patches.py",
    "test_documents_run.py",
)
NO_NETWORK = Path(__file__).parent / "no_network"
RAYS_OWN = "/ray/dashboard/dashboard.py"  # asks which cloud it runs in, and reports even that it shall report nothing


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-host", action="store_true", help="skip the tests that need ComfyUI, instead of failing them")
    parser.addoption(
        "--fast", action="store_true", help="no slow tests, and of a test's many cases the first and the last"
    )
    parser.addoption(
        "--no-network",
        action="store_true",
        help="no socket but to this machine, here and in all processes that tests start",
    )


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):  # xdist would begin with the files of the most tests
        config.option.loadscopereorder = False
    config.pluginmanager.register(RootIsNoPackage())
    if config.getoption("--no-network"):
        if "NO_NETWORK" not in os.environ:  # a worker has it from the process that started it
            os.environ["NO_NETWORK"] = tempfile.mkstemp(prefix="no-network-")[1]
            paths = [str(NO_NETWORK), *filter(None, [os.environ.get("PYTHONPATH")])]
            os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        runpy.run_path(str(NO_NETWORK / "sitecustomize.py"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--no-network") and any(RAYS_OWN not in line for line in asked()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def asked() -> list[str]:
    return sorted(set(Path(os.environ["NO_NETWORK"]).read_text(encoding="utf-8").splitlines()))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("--no-network"):
        terminalreporter.section(f"asked for the network: {len(asked())}")
        terminalreporter.line("\n".join(asked()) or "nothing did")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    if not config.getoption("--fast"):
        return
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    ends = {id(item) for many in cases.values() for item in (many[0], many[-1])}
    kept = [item for item in items if id(item) in ends and not item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


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
