"""What a person sees: the page opens every workflow, no node is red, Run ends well and the video plays."""

import json
from typing import Any

import browser
import examples
import hosts
import pytest
from standins import HEIGHT, WIDTH

SIDE = 64  # every model here makes frames of multiples of it
BLUEPRINTS = sorted(path.stem for path in (hosts.ROOT / "subgraphs").glob("*.json"))


def read(folder: str, name: str) -> dict[str, Any]:
    return json.loads((hosts.ROOT / folder / f"{name}.json").read_text(encoding="utf-8"))


def assert_runs_and_plays(tab: browser.Tab) -> None:
    assert tab.red_nodes() == []
    tab.shorten(WIDTH, HEIGHT, steps=2)
    assert tab.run() == "execution_success"
    assert tab.red_nodes() == []
    video = tab.play()
    assert video["time"] > 0
    assert video["width"] % SIDE == 0 and video["height"] % SIDE == 0 and video["width"] > 0
    assert tab.errors == []


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_page_opens_and_runs_the_workflow(name: str, tab: browser.Tab) -> None:
    tab.load(read("workflows", name))
    assert_runs_and_plays(tab)


@pytest.mark.parametrize("name", examples.EXAMPLES)
def test_page_makes_the_same_prompt_of_the_workflow_as_we_keep(name: str, tab: browser.Tab) -> None:
    """It may add defaults of inputs that only newer hosts have, or that nobody set."""
    tab.load(read("workflows", name))
    made, kept = tab.prompt(), read("workflows/api", name)
    assert {key: node["class_type"] for key, node in made.items()} == {
        key: node["class_type"] for key, node in kept.items()
    }
    for key, node in kept.items():
        assert {name: made[key]["inputs"].get(name) for name in node["inputs"]} == node["inputs"]
    added = {name for key, node in kept.items() for name in made[key]["inputs"] if name not in node["inputs"]}
    ours = json.loads((hosts.ROOT / "tests" / "host" / "object_info.json").read_text(encoding="utf-8")).values()
    optional = {name for node in ours for name, given in node["inputs"].items() if given["presence"] == "optional"}
    assert added <= {"bit_depth", *optional}


@pytest.mark.parametrize("name", BLUEPRINTS)
def test_blueprint_is_one_node_that_runs(name: str, tab: browser.Tab) -> None:
    tab.load(read("subgraphs", name))
    shown = tab.page.evaluate(
        """() => {
            const { graph } = window.app
            const [one] = graph.nodes
            const create = (kind, x) => {
                const node = window.LiteGraph.createNode(kind)
                graph.add(node)
                node.pos = [x, 0]
                return node
            }
            const image = create("LoadImage", -400)
            image.widgets.find((widget) => widget.name === "image").value = "example.png"
            one.inputs.forEach((input, slot) => input.type === "IMAGE" && image.connect(0, one, slot))
            one.connect(0, create("SaveVideo", 500), 0)
            return one.widgets.map((widget) => widget.label ?? widget.name)
        }"""
    )
    assert len(shown) >= 10
    assert_runs_and_plays(tab)


def test_page_shows_the_help_of_a_node_with_its_picture(tab: browser.Tab) -> None:
    tab.load(read("workflows", "animate_image"))
    tab.page.evaluate(
        """() => {
            const { graph, canvas } = window.app
            canvas.selectNode(graph.nodes.find((node) => node.type === "DynamiCrafterVisualGuidance"))
        }"""
    )
    tab.fit()
    tab.page.locator("[data-testid=info-button]").first.click()
    tab.page.wait_for_function(
        """() => [...document.querySelectorAll("img")].some(
            (image) => image.src.endsWith("/docs/DynamiCrafterVisualGuidance.png") && image.naturalWidth > 100)""",
        timeout=30_000,
    )


@pytest.mark.parametrize("name", ["animate_image", "interpolate_two_images"])
def test_page_shows_names_in_words(name: str, tab: browser.Tab) -> None:
    tab.load(read("workflows", name))
    shown = tab.page.evaluate(
        """() => window.app.graph.nodes.filter((node) => node.type.startsWith("DynamiCrafter"))
            .flatMap((node) => [...node.inputs, ...(node.widgets ?? [])])
            .map((one) => one.label ?? one.localized_name ?? one.name)"""
    )
    assert {"image fit", "motion (fs)", "end image", "fresh noise (eta)", "timestep spacing"} <= set(shown)
    assert [one for one in shown if "_" in one and one != "control_after_generate"] == []
