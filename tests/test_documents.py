"""What the documents say is so: links lead somewhere, commands exist, figures are the code's."""

import ast
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import repository

README = (repository.ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {repository.name(path): path for path in repository.files(".md")}


def code_blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def headings(path: Path) -> set[str]:
    """The anchors GitHub makes of the headings."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = DOCUMENTS[document]
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    dead = []
    for target in targets:
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in headings(there)):
            dead.append(target)
    assert not dead


def test_every_make_target_in_the_documents_exists_and_the_reverse() -> None:
    makefile = (repository.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    named = {
        name for path in DOCUMENTS.values() for name in re.findall(r"\bmake ([a-z]+)\b(?=`| |$)", code_of(path), re.M)
    }
    assert named - targets == set()
    assert targets - named == set()


def code_of(path: Path) -> str:
    """Only what stands in code, inline or in blocks."""
    text = path.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```.*?^```$|`[^`\n]+`", text, re.M | re.S))


def test_every_dependency_has_its_reason() -> None:
    table = (repository.ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([\w-]+)` \|", table.split("## Without ComfyUI")[1].split("\n## ")[0], re.M))
    assert explained == repository.dependencies()


def test_python_in_the_readme_compiles_and_imports_what_there_is() -> None:
    blocks = code_blocks(README, "python")
    assert blocks
    import dynamicrafter_core

    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "dynamicrafter_core":
                assert all(hasattr(dynamicrafter_core, alias.name) for alias in node.names)
