"""Write what is derived: workflows/, subgraphs/ and the English texts in locales/, from descriptions and node schemas.

python tools/generate.py            asks the newest ComfyUI there is for its nodes
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blueprints
import comfyui
import examples
import hosts
import translations
from graph import Graph

FOLDER = hosts.ROOT / "workflows"


def files(object_info: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Every file and the text that belongs into it."""
    for name, describe in examples.EXAMPLES.items():
        graph = Graph(object_info)
        describe(graph)
        yield FOLDER / f"{name}.json", by_lines(graph.page(name))
        yield FOLDER / "api" / f"{name}.json", by_lines(graph.prompt())
    for path, content in blueprints.files(object_info):
        yield path, by_lines(content)
    english = json.dumps(translations.english(object_info), indent=2, ensure_ascii=False)
    yield hosts.ROOT / "locales" / "en" / "nodeDefs.json", english + "\n"


def by_lines(content: dict[str, Any]) -> str:
    """A line for each node and each link, so that what changed can be read."""
    lines = []
    for key, value in content.items():
        parts = value if isinstance(value, list) and value else None
        if parts:
            inside = ",\n".join(f"  {plain(part)}" for part in parts)
            lines.append(f" {plain(key)}: [\n{inside}\n ]")
        else:
            lines.append(f" {plain(key)}: {plain(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def main() -> int:
    with tempfile.TemporaryDirectory() as base, comfyui.ComfyUI(hosts.find_host(), Path(base), "--cpu") as server:
        object_info = server.get("/object_info")
    for path, text in files(object_info):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        sys.stdout.write(f"{path.relative_to(hosts.ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
