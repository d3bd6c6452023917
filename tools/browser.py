"""ComfyUI's page in a headless Chromium, for the end-to-end tests and the screenshots."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfyui

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    *(
        str(Path(os.environ[folder], "Google", "Chrome", "Application", "chrome.exe"))
        for folder in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA")
        if os.environ.get(folder)
    ),
)
# It must not use the network; root in a container has no sandbox.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
# A page that has been used before: no tour and no templates on top of the graph.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.30.0",
    "Comfy.Workflow.Persist": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Workflow.WorkflowTabsPosition": "Sidebar",
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Release.Status": "skipped",
}
ENDS = ("execution_success", "execution_error", "execution_interrupted")


def find_browser() -> str | None:
    """CHROMIUM if set, else any Chromium or Chrome on this machine."""
    if given := os.environ.get("CHROMIUM"):
        return given
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or next((place for place in PLACES if Path(place).is_file()), None)


def settle(base: Path) -> None:
    """To be done before the server starts."""
    file = base / "user" / "default" / "comfy.settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(SETTINGS))


class Tab:
    """One page of a running server."""

    def __init__(self, page: Any, server: comfyui.ComfyUI) -> None:
        self.page, self.server = page, server
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def start(self) -> None:
        self.page.goto(self.server.url, wait_until="domcontentloaded")
        self.page.wait_for_function("() => window.app?.graph && window.app.vueAppReady", timeout=120_000)

    def load(self, workflow: dict[str, Any]) -> None:
        self.page.evaluate("async (graph) => { await window.app.loadGraphData(graph, true, true, null) }", workflow)
        self.page.wait_for_timeout(300)

    def prompt(self) -> dict[str, Any]:
        """The API format of what is on the page, as the page itself makes it."""
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def shorten(self, width: int, height: int, steps: int) -> None:
        """As `standins.shorten` does to a prompt, by the widgets."""
        self.page.evaluate(
            """([width, height, steps]) => {
                const set = (node, name, value) => {
                    const widget = node.widgets?.find((one) => one.name === name)
                    if (widget) widget.value = value
                }
                const visit = (graph) => {
                    for (const node of graph.nodes) {
                        set(node, "steps", steps)
                        if (node.type === "EmptyLatentImage") { set(node, "width", width); set(node, "height", height) }
                        if (node.subgraph) visit(node.subgraph)
                    }
                }
                visit(window.app.graph)
            }""",
            [width, height, steps],
        )

    def run(self, patience: float = 300) -> str:
        """Presses the keys for Run and returns the name of the event that ended it."""
        self.page.evaluate(
            """(ends) => {
                window.ended = null
                for (const end of ends)
                    window.app.api.addEventListener(end, () => { window.ended ??= end }, { once: true })
            }""",
            list(ENDS),
        )
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_function("() => window.ended", timeout=patience * 1000)
        return self.page.evaluate("() => window.ended")

    def red_nodes(self) -> list[str]:
        """Nodes that are unknown to the page, or that it marks for an error."""
        return self.page.evaluate(
            """() => window.app.graph.nodes
                .filter((node) => node.has_errors || node.constructor.nodeData === undefined && node.type !== "MarkdownNote"
                    && !node.isSubgraphNode?.())
                .map((node) => node.title)"""
        )

    def play(self, patience: float = 60) -> dict[str, float]:
        """Waits until the newest video on the page shows pictures and moves on."""
        self.page.wait_for_function("() => document.querySelector('video')", timeout=patience * 1000)
        return self.page.evaluate(
            """async () => {
                const video = [...document.querySelectorAll("video")].at(-1)
                video.muted = true
                video.loop = true
                await video.play()
                for (let waited = 0; waited < 100 && !(video.currentTime > 0.1); waited++)
                    await new Promise((done) => setTimeout(done, 100))
                return { time: video.currentTime, width: video.videoWidth, height: video.videoHeight }
            }"""
        )

    def hush(self) -> None:
        """No messages on top of the graph."""
        self.page.add_style_tag(content=".p-toast, [role=status], [class*=job-history] { display: none !important }")
        self.page.wait_for_timeout(6000)

    def fit(self) -> None:
        """The whole graph in view, below the tabs."""
        self.page.evaluate(
            """() => {
                const { canvas, graph } = window.app
                const nodes = graph.nodes.map((node) => node.boundingRect ?? node.getBounding())
                const left = Math.min(...nodes.map((one) => one[0])), top = Math.min(...nodes.map((one) => one[1]))
                const right = Math.max(...nodes.map((one) => one[0] + one[2]))
                const bottom = Math.max(...nodes.map((one) => one[1] + one[3]))
                const area = canvas.canvas.getBoundingClientRect()
                const scale = Math.min((area.width - 120) / (right - left), (area.height - 170) / (bottom - top))
                canvas.ds.scale = scale
                canvas.ds.offset = [-left + 80 / scale, -top + 130 / scale]
                canvas.setDirty(true, true)
            }"""
        )
        self.page.wait_for_timeout(500)


@contextmanager
def open_page(browser: str, width: int = 1600, height: int = 900) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        try:
            yield chromium.new_page(viewport={"width": width, "height": height})
        finally:
            chromium.close()


@contextmanager
def open_tab(server: comfyui.ComfyUI, browser: str, width: int = 1600, height: int = 900) -> Iterator[Tab]:
    with open_page(browser, width, height) as page:
        tab = Tab(page, server)
        tab.start()
        yield tab
