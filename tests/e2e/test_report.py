"""A batch's report in a real Chromium: clips play where they are seen and load nowhere else, and can be stopped and found."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest

from dynamicrafter_core.batch.report import OPEN, Report
from dynamicrafter_core.batch.result import Result
from dynamicrafter_core.media.saving import save_clip

CLIPS = 60
LOADED = "() => [...document.querySelectorAll('video')].filter((video) => video.readyState >= 2).length"
PLAYING = "() => [...document.querySelectorAll('video')].filter((video) => !video.paused).length"
SHOWN = "() => [...document.querySelectorAll('figure:not([hidden]) a')].map((link) => link.textContent)"


def write_report(folder: Path, failures: int) -> Path:
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    report = Report(folder, CLIPS + failures)
    for number in range(CLIPS):
        kind = {5: "gif", 6: "png"}.get(number, "mp4")
        settings = {"prompt": "sea" if number % 2 else "sky", "seed": number, "steps": 1, "width": 64, "height": 64}
        path = save_clip(frames, folder / f"n{number}.{kind}", 8, settings)
        report.results[number] = Result(number, f"n{number}", "", "made", path, settings=settings)
    for number in range(CLIPS, CLIPS + failures):
        report.results[number] = Result(number, f"bad{number}", "", "failed", error="steps is 0; give 1 or more.")
    report.write()
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    file = write_report(tmp_path_factory.mktemp("report"), 3)
    with browser.open_page(chromium, 1400, 900) as opened:
        opened.errors = []
        opened.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.goto(file.as_uri())
        yield opened


def test_clips_play_where_they_are_seen_and_load_nowhere_else(page: Any) -> None:
    page.wait_for_function("() => document.querySelector('video').currentTime > 0.1", timeout=60_000)
    assert 0 < page.evaluate(PLAYING) < CLIPS / 2
    assert 0 < page.evaluate(LOADED) < CLIPS / 2
    last = "[...document.querySelectorAll('video')].at(-1)"
    assert page.evaluate(f"() => {last}.readyState") == 0
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function(f"() => {last}.currentTime > 0.1", timeout=60_000)
    assert page.evaluate("() => document.querySelector('video').paused")
    assert page.errors == []


def test_a_click_stops_a_clip_until_the_next(page: Any) -> None:
    page.evaluate("window.scrollTo(0, 0)")
    first = page.locator("video").first
    page.wait_for_function("() => !document.querySelector('video').paused", timeout=60_000)
    first.click()
    assert first.evaluate("(video) => video.paused")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(300)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(300)
    assert first.evaluate("(video) => video.paused")
    first.click()
    assert not first.evaluate("(video) => video.paused")


def test_clips_and_failures_are_found_by_words(page: Any) -> None:
    box = page.locator("input")
    box.fill("SEA 17")
    assert page.evaluate(SHOWN) == ["n17"]
    assert page.locator("output").inner_text() == f"1 of {CLIPS + 3}"
    assert not page.locator("li").first.is_visible() and not page.locator("summary").is_visible()
    box.fill("steps is")
    assert page.evaluate(SHOWN) == [] and page.locator("li").first.is_visible()
    box.fill("")
    assert len(page.evaluate(SHOWN)) == CLIPS and page.locator("output").inner_text() == ""


def test_many_failures_do_not_hide_the_clips(page: Any, tmp_path: Path) -> None:
    page.goto(write_report(tmp_path, OPEN + 1).as_uri())
    assert not page.locator("li").first.is_visible() and page.locator("video").first.is_visible()
    page.locator("input").fill("bad61")
    assert page.locator("li:visible").count() == 1
    page.locator("input").fill("")
    assert page.locator("li").count() == OPEN + 1 and page.locator("li").first.is_visible()
