"""Take the pictures: every workflow in docs/screenshots/, its thumbnail in workflows/, every node in web/docs/.

python tools/screenshots.py [workflow or node id ...]     needs a Chromium or Chrome; runs the workflows with the embedded model

What the embedded model cannot do (text to video, sketches, a merge with another model) runs on a stand-in, and shows noise.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

import browser
import comfyui
import examples
import hosts
import standins
import translations

SHOTS = hosts.ROOT / "docs" / "screenshots"
NODES = hosts.ROOT / "web" / "docs"
THUMBNAIL = (480, 300)
NOISE = ("text_to_video", "text_to_video_in_4_steps", "sketch_inbetween", "merge_parts")
MARGIN = 14


def read(name: str) -> dict:
    return json.loads((hosts.ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def shoot_workflow(tab: browser.Tab, name: str) -> None:
    from PIL import Image, ImageOps

    tab.load(read(name))
    if name in NOISE:  # there is no released model here
        tab.shorten(standins.WIDTH, standins.HEIGHT, steps=2)
    if tab.run() != "execution_success":
        raise SystemExit(f"{name} did not end well; nothing was written of it")
    tab.play()
    tab.hush()
    tab.fit()
    picture = Image.open(io.BytesIO(tab.page.screenshot()))
    save(picture, SHOTS / f"{name}.png")
    graph = picture.crop((60, 40, picture.width, picture.height)).convert("RGB")
    ImageOps.fit(graph, THUMBNAIL).save(hosts.ROOT / "workflows" / f"{name}.jpg", quality=80)


def shoot_node(tab: browser.Tab, node: str) -> None:
    from PIL import Image

    tab.page.evaluate(
        """(kind) => {
            const { graph, canvas } = window.app
            graph.clear()
            const node = window.LiteGraph.createNode(kind)
            graph.add(node)
            node.pos = [0, 0]
            node.setSize([340, node.computeSize()[1]])
            canvas.ds.scale = Math.min(1.5, (window.innerHeight - 20) / (160 + node.size[1])) // all of it in view
            canvas.ds.offset = [220, 160]
            canvas.setDirty(true, true)
        }""",
        node,
    )
    tab.page.wait_for_timeout(400)
    left, top, right, bottom = tab.page.evaluate(
        """() => {
            const { canvas, graph } = window.app
            const [x, y, width, height] = graph.nodes[0].boundingRect
            const area = canvas.canvas.getBoundingClientRect()
            const place = ([a, b]) => [area.left + (a + canvas.ds.offset[0]) * canvas.ds.scale,
                area.top + (b + canvas.ds.offset[1]) * canvas.ds.scale]
            return [...place([x, y]), ...place([x + width, y + height])]
        }"""
    )
    picture = Image.open(io.BytesIO(tab.page.screenshot()))
    box = (left - MARGIN, top - 2.5 * MARGIN, right + MARGIN, bottom + MARGIN)
    save(picture.crop(tuple(map(round, box))), NODES / f"{node}.png")


def save(picture, path: Path) -> None:
    """As a PNG of few colours: these are drawings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").quantize(128).save(path, optimize=True)
    sys.stdout.write(f"{path.relative_to(hosts.ROOT)}\n")


def main(names: list[str]) -> int:
    found = browser.find_browser()
    if found is None:
        sys.stderr.write("There is no Chromium or Chrome here: install one, or set CHROMIUM to its program.\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        standins.write_all(base)
        browser.settle(base)
        with (
            comfyui.ComfyUI(hosts.find_host(), base, "--cpu", "--use-pytorch-cross-attention") as server,
            browser.open_tab(server, found) as tab,
        ):
            tab.page.evaluate("() => window.app.extensionManager.setting.set('LiteGraph.Canvas.MinFontSizeForLOD', 0)")
            nodes = translations.ours(server.get("/object_info"))
            for name in names or [*examples.EXAMPLES, *nodes]:
                shoot_node(tab, name) if name in nodes else shoot_workflow(tab, name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
