"""Strokes drawn with the mouse on the page, of either kind: a drag is a line of the text, and the text is what is saved."""

import json
from collections.abc import Iterator
from typing import Any

import browser
import hosts
import pytest

SIDE = 768  # of the example picture
FIRST = "686,96 -> 686,240"  # in the workflow
NODE = "window.app.graph.nodes.find((node) => node.type === 'DynamiCrafterStrokes')"
TEXT = f"() => {NODE}.widgets.find((widget) => widget.name === 'strokes').value"
SET_TEXT = f"(text) => {{ {NODE}.widgets.find((widget) => widget.name === 'strokes').value = text }}"
CANVAS = f"() => {NODE}.widgets.find((widget) => widget.name === 'drawing').element"
# The hue of strokes; the example picture has none of it.
YELLOW = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
    let count = 0
    for (let at = 0; at < data.length; at += 4) count += data[at] === 255 && data[at + 1] === 221 && data[at + 2] === 0
    return count
}"""


@pytest.fixture(params=[False, True], ids=["canvas page", "page of the newer kind"])
def page(request: pytest.FixtureRequest, tab: browser.Tab) -> Iterator[browser.Tab]:
    choose(tab, request.param)
    tab.load(workflow())
    tab.page.evaluate("() => window.app.canvas.deselectAll?.()")
    show(tab)
    yield tab
    choose(tab, False)


def choose(tab: browser.Tab, newer: bool) -> None:
    tab.page.evaluate("(on) => window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", newer)


def workflow() -> dict[str, Any]:
    return json.loads((hosts.ROOT / "workflows" / "motion_brush.json").read_text(encoding="utf-8"))


def show(tab: browser.Tab) -> None:
    """The node alone, large enough to draw in."""
    tab.page.evaluate(
        f"""() => {{
            const node = {NODE}
            const {{ canvas }} = window.app
            node.setSize([Math.max(400, node.size[0]), Math.max(900, node.computeSize()[1])])
            canvas.ds.scale = 0.8
            canvas.ds.offset = [300 - node.pos[0], 100 - node.pos[1]]
            canvas.setDirty(true, true)
        }}"""
    )
    tab.page.wait_for_function(f"() => {{ const it = ({CANVAS})(); return it.isConnected && it.width === {SIDE} }}")
    tab.page.wait_for_timeout(700)


def shown(tab: browser.Tab) -> int:
    tab.page.wait_for_timeout(600)
    return tab.page.evaluate_handle(CANVAS).as_element().evaluate(YELLOW)


def place(tab: browser.Tab, x: float, y: float) -> tuple[float, float]:
    """On the screen, of a pixel of the picture, which lies in the canvas's box as large as it can be."""
    box = tab.page.evaluate_handle(CANVAS).as_element().bounding_box()
    assert box and min(box["width"], box["height"]) > 80
    scale = min(box["width"], box["height"]) / SIDE
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return middle[0] + (x - SIDE / 2) * scale, middle[1] + (y - SIDE / 2) * scale


def drag(tab: browser.Tab, *points: tuple[float, float]) -> None:
    mouse = tab.page.mouse
    mouse.move(*place(tab, *points[0]))
    mouse.down()
    for point in points[1:]:
        mouse.move(*place(tab, *point), steps=8)
    mouse.up()


def points_of(line: str) -> list[list[float]]:
    return [[float(value) for value in point.split(",")] for point in line.split("->")]


def test_a_drag_is_a_line_of_the_text(page: browser.Tab) -> None:
    assert page.page.evaluate(TEXT) == FIRST
    one = shown(page)
    assert one > 100
    drag(page, (150, 200), (450, 500))
    first, second = page.page.evaluate(TEXT).split("\n")
    assert first == FIRST
    start, end = points_of(second)
    assert start == pytest.approx([150, 200], abs=4) and end == pytest.approx([450, 500], abs=4)
    assert shown(page) > 1.5 * one
    assert page.prompt()[page_id(page)]["inputs"]["strokes"] == f"{first}\n{second}"
    assert page.errors == []


def test_a_bend_is_kept_and_a_straight_line_has_two_points(page: browser.Tab) -> None:
    drag(page, (100, 100), (400, 110), (410, 500))
    line = points_of(page.page.evaluate(TEXT).split("\n")[1])
    assert 3 <= len(line) <= 4
    assert any(point == pytest.approx([400, 110], abs=15) for point in line)


def test_the_text_is_drawn_and_a_click_on_a_start_takes_its_stroke_away(page: browser.Tab) -> None:
    page.page.evaluate(SET_TEXT, "100,100 -> 300,100; radius 30\n100,600 -> 500,600 -> 500,300")
    two = shown(page)
    page.page.mouse.click(*place(page, 102, 99))
    assert page.page.evaluate(TEXT) == "radius 30\n100,600 -> 500,600 -> 500,300"
    assert 0 < shown(page) < two
    page.page.mouse.click(*place(page, 400, 200))
    assert page.page.evaluate(TEXT) == "radius 30\n100,600 -> 500,600 -> 500,300"
    page.page.evaluate(SET_TEXT, "")
    assert shown(page) == 0


def test_a_saved_workflow_has_the_text_and_nothing_more(page: browser.Tab) -> None:
    drag(page, (150, 200), (450, 500))
    text = page.page.evaluate(TEXT)
    saved = page.page.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))")
    (given,) = (node["widgets_values"] for node in workflow()["nodes"] if node["type"] == "DynamiCrafterStrokes")
    (kept,) = (node["widgets_values"] for node in saved["nodes"] if node["type"] == "DynamiCrafterStrokes")
    assert kept == [text, *given[1:], ""]  # the camera, which the example leaves out
    page.load(workflow())
    assert page.page.evaluate(TEXT) == FIRST
    page.load(saved)
    show(page)
    assert page.page.evaluate(TEXT) == text
    assert shown(page) > 200


def page_id(tab: browser.Tab) -> str:
    return tab.page.evaluate(f"() => String({NODE}.id)")
