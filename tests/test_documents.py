"""What the documents say is so: links lead somewhere, commands exist, figures are the code's."""

import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import repository

LIBRARY = (repository.ROOT / "docs" / "library.md").read_text(encoding="utf-8")
MODELS = (repository.ROOT / "docs" / "models.md").read_text(encoding="utf-8")
DOCUMENTS = {repository.name(path): path for path in repository.files(".md")}


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
    """Only what stands in code: inline, in fences, or indented for itself."""
    text = path.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```.*?^```$|`[^`\n]+`|^ {4}make [^\n]+$", text, re.M | re.S))


def test_every_step_on_the_path_of_an_image_exists() -> None:
    text = (repository.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| [^|]+\|([^|]+)\|([^|]+)\|$", text.split("## The path of an image")[1].split("\n## ")[0], re.M
    )
    steps = []
    for cells in rows[2:]:
        for folder, cell in zip(("nodes/host", "dynamicrafter_core"), cells, strict=True):
            for file, rest in re.findall(r"`([\w/]+\.py)`:?([^`]*(?:`\w+`[^`]*)*)", cell):
                path = repository.ROOT / (file if file.startswith("nodes/") else f"{folder}/{file}")
                source = path.read_text(encoding="utf-8")
                steps += [(file, name, source) for name in re.findall(r"`(\w+)`", rest)]
    assert len(steps) > 20
    missing = [(file, name) for file, name, source in steps if not re.search(rf"(?:def|class) {name}\b", source)]
    assert missing == []


def test_every_dependency_has_its_reason() -> None:
    table = (repository.ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([\w-]+)` \|", table.split("## Without ComfyUI")[1].split("\n## ")[0], re.M))
    assert explained == repository.dependencies()


def commands_of(text: str) -> list[str]:
    return re.findall(r"^    (dynamicrafter .+)$", text, re.M)


def test_library_page_shows_every_command_there_is() -> None:
    from dynamicrafter_core.cli.main import make_parser

    there = re.findall(r"^    ([a-z]+)(?:  |$)", make_parser().format_help(), re.M)
    assert {shlex.split(command)[1] for command in commands_of(LIBRARY)} == set(there) != set()


def test_table_of_variants_holds_the_figures_of_the_code() -> None:
    from dynamicrafter_core.families import FAMILIES, FINE_TUNES, Family

    def row(family: Family) -> str:
        fs, more = "none", ""
        if family.fs_range:
            fs = f"{family.fs_meaning}, {family.fs_default}, {family.fs_range[0]} to {family.fs_range[1]}"
            more = "larger" if family.fs_larger_moves_more else "smaller"
        repository_name, _, file = family.published.partition(": ")
        published = f"[{repository_name}](https://huggingface.co/{repository_name})" + (f" `{file}`" if file else "")
        figures = f"{family.steps}, {family.cfg:g}, {family.eta:g}"
        modes = ", ".join(family.modes)
        size = f"{family.width} x {family.height}"
        return f"| `{family.name}` | {modes} | {size} | {fs} | {more} | {figures} | {published} |"

    expected = [row(family) for family in (*FAMILIES.values(), *FINE_TUNES.values())]
    written = [
        line for line in MODELS.splitlines() if re.match(r"\| `\w+` \| (animate|interpolate|generate|fly)", line)
    ]
    assert written == expected


@pytest.mark.parametrize("language", ["en", "ja", "ko", "zh"])
def test_tooltips_tell_the_embedded_models_own_figures(language: str) -> None:
    figures = json.loads((repository.ROOT / "dynamicrafter_core" / "embedded" / "embedded.json").read_text())["figures"]
    texts = json.loads((repository.ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    for field, figure, nodes in (("cfg_text", figures["cfg"], 2), ("steps", figures["steps"], 3)):
        tooltips = [node["inputs"][field]["tooltip"] for node in texts.values() if field in node["inputs"]]
        assert len(tooltips) == nodes
        assert all(re.findall(r"[\d.]*\d", tooltip)[-1] == f"{figure:g}" for tooltip in tooltips)


def test_every_variant_has_its_licence() -> None:
    from dynamicrafter_core.families import FAMILIES, FINE_TUNES

    table = MODELS.split("## Licences")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+`) \| (?:Apache-2\.0|MIT)", table, re.M)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted([*FAMILIES, *FINE_TUNES])
