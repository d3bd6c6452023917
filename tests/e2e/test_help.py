"""Every node has a help page with a picture, and all its words in four languages, where the host looks for them."""

import json
import re
import urllib.request
from typing import Any

import comfyui
import hosts
import pytest
import repository
import translations

LANGUAGES = ("en", "zh", "ja", "ko")
DOCS = hosts.ROOT / "web" / "docs"
NODES = re.findall(
    r"Schema\(\s*node_id=\"(\w+)\"",
    "\n".join(path.read_text(encoding="utf-8") for path in repository.files(".py", hosts.ROOT / "nodes")),
)


def leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    if isinstance(tree, str):
        return {path: tree}
    return {leaf: text for key, branch in tree.items() for leaf, text in leaves(branch, (*path, key)).items()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_every_node_is_translated(language: str, object_info: dict[str, Any]) -> None:
    file = hosts.ROOT / "locales" / language / "nodeDefs.json"
    wanted = leaves(translations.english(object_info))
    given = leaves(json.loads(file.read_text(encoding="utf-8")))
    assert set(given) == set(wanted)
    assert all(text.strip() for text in given.values())
    if language != "en":
        long = [path for path, text in wanted.items() if len(text) > 20 and given[path] == text]
        assert not long, "these are still English"


def test_host_serves_every_language(server: comfyui.ComfyUI) -> None:
    served = server.get("/i18n")
    assert {language for language in LANGUAGES if set(served[language]["nodeDefs"]) >= set(NODES)} == set(LANGUAGES)


def test_there_is_a_page_for_every_node_and_for_no_other() -> None:
    assert {path.stem for path in DOCS.glob("*.md")} == set(NODES)


@pytest.mark.parametrize("node", NODES)
def test_host_serves_the_page_and_its_picture(node: str, server: comfyui.ComfyUI) -> None:
    base = f"{server.url}/extensions/{comfyui.PACK}/docs/"
    with urllib.request.urlopen(f"{base}{node}.md") as answer:
        text = answer.read().decode()
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert pictures
    for picture in pictures:
        with urllib.request.urlopen(base + picture) as answer:
            assert answer.headers["Content-Type"].startswith("image/")


@pytest.mark.parametrize("node", NODES)
def test_page_explains_every_input(node: str, object_info: dict[str, Any]) -> None:
    """By the name it has on the page."""
    text = (DOCS / f"{node}.md").read_text(encoding="utf-8")
    groups = [object_info[node]["input"].get(group, {}) for group in ("required", "optional")]
    shown = [options["display_name"] for group in groups for _, options in group.values()]
    assert [name for name in shown if f"**{name}**" not in text] == []


def test_registry_archive_leaves_out_only_folders_of_the_root() -> None:
    """`docs/` alone would leave out web/docs too."""
    lines = (hosts.ROOT / ".comfyignore").read_text(encoding="utf-8").split("\n")
    assert [line for line in lines if line and not line.startswith(("#", "/"))] == []
