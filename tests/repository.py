"""The files of this repository, as the tests about them see them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HIDDEN_BUT_OURS = {".ci", ".github"}
PRODUCTS = {"build", "dist", "out", "__pycache__"}


def files(suffix: str, folder: Path = ROOT) -> Iterator[Path]:
    """Every file of ours with this suffix; no environments, caches or build products."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            if path.name.endswith(suffix):
                yield path
        elif not skipped(path):
            yield from files(suffix, path)


def skipped(folder: Path) -> bool:
    if folder.name.startswith("."):
        return folder.name not in HIDDEN_BUT_OURS
    return folder.name in PRODUCTS or folder.name.endswith(".egg-info") or (folder / "pyvenv.cfg").exists()


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """(module, level) of every import that is ever run, wherever it stands in the file; level counts the leading dots."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def project() -> dict[str, Any]:
    """pyproject.toml; read by the parser that pytest brings where Python has none yet (3.10)."""
    try:
        import tomllib
    except ModuleNotFoundError:
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def dependencies() -> set[str]:
    return {re.split(r"[\s<>=!~\[;]", line)[0] for line in project()["project"]["dependencies"]}
