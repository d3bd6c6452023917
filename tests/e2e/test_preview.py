"""While a video is sampled, its preview plays: on the page of either kind, with our sampler and with the host's."""

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import browser
import hosts
import pytest
from PIL import Image
from standins import HEIGHT, WIDTH

SAMPLERS = {
    "animate_image": "DynamiCrafterSampler",
    "native_ksampler_with_lora": "KSampler",
    "dual_guidance_compare": "SamplerCustomAdvanced",
}


@pytest.fixture
def page(tab: browser.Tab) -> Iterator[browser.Tab]:
    """Previews on, as in the page's settings, and every one of them kept."""
    choose(tab, "Comfy.Execution.PreviewMethod", "latent2rgb")
    tab.page.evaluate(
        """() => {
            window.previews = []
            window.keep ??= ({ detail }) => window.previews.push(detail)
            window.app.api.addEventListener("b_preview_with_metadata", window.keep)
        }"""
    )
    yield tab
    choose(tab, "Comfy.Execution.PreviewMethod", "default")
    choose(tab, "Comfy.VueNodes.Enabled", False)


def choose(tab: browser.Tab, setting: str, value: object) -> None:
    tab.page.evaluate("([id, value]) => window.app.extensionManager.setting.set(id, value)", [setting, value])


def run(tab: browser.Tab, workflow: str, steps: int = 3) -> None:
    tab.load(json.loads((hosts.ROOT / "workflows" / f"{workflow}.json").read_text(encoding="utf-8")))
    tab.shorten(WIDTH, HEIGHT, steps)
    assert tab.run() == "execution_success"
    assert tab.errors == []


def clips(tab: browser.Tab) -> list[Image.Image]:
    """The animated pictures among what the page was sent."""
    sent = tab.page.evaluate(
        """async () => {
            const read = async (blob) => btoa(String.fromCharCode(...new Uint8Array(await blob.arrayBuffer())))
            return Promise.all(window.previews.map((one) => one.blob).filter((blob) => blob.type === "image/png").map(read))
        }"""
    )
    return [Image.open(BytesIO(base64.b64decode(one))) for one in sent]


def frames(clip: Image.Image) -> set[bytes]:
    found = set()
    for index in range(clip.n_frames):
        clip.seek(index)
        found.add(clip.convert("RGB").tobytes())
    return found


def assert_plays(tab: browser.Tab, picture: Any) -> None:
    """It changes by itself: nothing arrives any more."""
    tab.fit()
    box = picture.bounding_box()
    assert box and box["width"] > 20 and box["height"] > 20
    seen = set()
    for _ in range(8):
        seen.add(picture.screenshot())
        tab.page.wait_for_timeout(130)
    assert len(seen) > 2


@pytest.mark.parametrize("workflow", SAMPLERS)
def test_preview_plays_in_the_node(workflow: str, page: browser.Tab) -> None:
    run(page, workflow)
    sent = clips(page)
    assert len(sent) >= 3
    assert all(clip.n_frames == 16 and len(frames(clip)) > 8 for clip in sent)
    find = "(kind) => window.app.graph.nodes.find((node) => node.type === kind).imgs?.[0]"
    page.fit()
    page.page.wait_for_function(f"(kind) => ({find})(kind)?.clientHeight > 100", arg=SAMPLERS[workflow])
    assert_plays(page, page.page.evaluate_handle(find, SAMPLERS[workflow]).as_element())


def test_preview_plays_on_the_page_of_the_newer_kind(page: browser.Tab) -> None:
    """It takes previews away when a node is done, so the last one is shown to it again."""
    choose(page, "Comfy.VueNodes.Enabled", True)
    run(page, "animate_image")
    assert clips(page)
    page.page.evaluate(
        """() => window.app.api.dispatchCustomEvent(
            "b_preview_with_metadata", window.previews.filter((one) => one.blob.type === "image/png").at(-1))"""
    )
    page.page.wait_for_timeout(300)
    assert_plays(page, page.page.locator("[data-node-id] img[src^='blob:']").last)
