"""What became of a batch: results.jsonl for programs, and report.html to look at, both whole at any moment."""

import html
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..atomic import written_whole
from .result import Result

PAUSE = 2.0  # seconds between two writings while the batch runs
OPEN = 20  # failures that may stand above the clips unfolded
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.4rem } summary { font-weight: bold } .failed { color: #a00 } li { margin: 0.3rem 0; overflow-wrap: anywhere }
.find { position: sticky; top: 0; z-index: 1; padding: 0.6rem 0; background: inherit }
input { font: inherit; width: min(24rem, 60%); padding: 0.3rem 0.6rem; color: inherit; background: transparent; border: 1px solid #888; border-radius: 4px }
.all { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 1rem; align-items: start }
figure { margin: 0 } video, img { display: block; width: 100%; height: auto; background: #8882; border-radius: 4px }
figcaption { font-size: 0.85rem; margin-top: 0.2rem; overflow-wrap: anywhere } .prompt { color: #666 }
a { color: #06c } [hidden] { display: none }
@media (prefers-color-scheme: dark) {
body { color: #ddd; background: #181818 } .failed { color: #f88 } .prompt { color: #999 } a { color: #7af } }
"""
# Hundreds of videos that load and play at once bring a browser to its knees: those in view do, and a click stops one. The browser's own
# controls would hide half of a small clip; they are there for who runs no scripts. Who wants no motion gets first frames.
_SCRIPT = """
const still = matchMedia("(prefers-reduced-motion: reduce)").matches
const watch = new IntersectionObserver((seen) => seen.forEach(({ target, isIntersecting }) => {
  if (still) { if (isIntersecting) target.preload = "metadata" }
  else if (isIntersecting && !target.stopped) target.play().catch(() => {})
  else target.pause()
}))
document.querySelectorAll("video").forEach((video) => {
  video.controls = false
  video.title = "Click to play or stop"
  video.addEventListener("click", () => {
    video.stopped = !video.paused
    if (video.stopped) video.pause()
    else video.play().catch(() => {})
  })
  watch.observe(video)
})
const all = [...document.querySelectorAll("figure, li")], box = document.querySelector("input"), shown = document.querySelector("output")
const failed = document.querySelector("details")
const find = () => {
  const words = box.value.toLowerCase().split(/\\s+/)
  for (const one of all) one.hidden = !words.every((word) => one.textContent.toLowerCase().includes(word))
  if (failed) failed.hidden = !failed.querySelector("li:not([hidden])")
  if (failed && box.value.trim()) failed.open = true
  shown.textContent = box.value.trim() ? all.filter((one) => !one.hidden).length + " of " + all.length : ""
}
box.addEventListener("input", find)
find()
"""


@dataclass
class Report:
    folder: Path
    total: int
    results: dict[int, Result] = field(default_factory=dict)
    _written: float = 0.0

    def add(self, result: Result) -> None:
        self.results[result.number] = result
        if time.monotonic() - self._written > PAUSE:
            self.write()

    def write(self) -> None:
        ordered = [self.results[number] for number in sorted(self.results)]
        _write(self.folder / "results.jsonl", "".join(f"{json.dumps(as_entry(result))}\n" for result in ordered))
        _write(self.folder / "report.html", _page(ordered, self.total))
        self._written = time.monotonic()

    def count(self, *states: str) -> int:
        return sum(result.state in states for result in self.results.values())


def as_entry(result: Result) -> dict[str, Any]:
    """One line of results.jsonl. A clip that was kept has the same entry as when it was made."""
    entry: dict[str, Any] = {
        "number": result.number,
        "name": result.name,
        "state": "failed" if result.error else "done",
    }
    if result.error:
        return {**entry, "error": result.error}
    return {**entry, "file": result.path.name if result.path else None, "settings": dict(result.settings or {})}


def _write(path: Path, text: str) -> None:
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def _page(results: list[Result], total: int) -> str:
    made = [result for result in results if result.path is not None]
    failures = [result for result in results if result.error]
    open_jobs = total - len(results)
    parts = [f"{len(made)} clips", f"{len(failures)} failed", *([f"{open_jobs} to do"] if open_jobs else [])]
    failed = "".join(f"<li><b>{html.escape(each.name)}</b>: {html.escape(each.error or '')}</li>" for each in failures)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{', '.join(parts)}</title><style>{_STYLE}</style><h1>{', '.join(parts)}</h1>"
        '<p class=find><input type="search" placeholder="Find: name, prompt, seed" aria-label="Find"> <output></output></p>'
        + (
            f"<details{' open' if len(failures) <= OPEN else ''}><summary>Failed</summary><ul class=failed>{failed}</ul></details>"
            if failures
            else ""
        )
        + f"<div class=all>{''.join(map(_figure, made))}</div><script>{_SCRIPT}</script></html>\n"
    )


def _figure(result: Result) -> str:
    assert result.path is not None
    source = quote(result.path.name)
    settings: Mapping[str, Any] = result.settings or {}
    width, height = settings.get("width"), settings.get("height")
    # Its place is kept before it is there. A contact sheet has a size of its own.
    place = f' width="{width}" height="{height}"' if type(width) is int and type(height) is int else ""
    if result.path.suffix == ".mp4":
        seen = f'<video src="{source}"{place} muted loop playsinline controls preload="none"></video>'
    else:
        seen = f'<img src="{source}"{place if result.path.suffix == ".gif" else ""} loading="lazy" alt="">'
    steps = settings.get("steps")
    figures = f"seed {settings.get('seed')}, {steps} step{'' if steps == 1 else 's'}, {width}x{height}"
    return (
        f'<figure>{seen}<figcaption><a href="{source}">{html.escape(result.name)}</a> '
        f"<span class=prompt>{html.escape(str(settings.get('prompt', '')))}<br>{html.escape(figures)}</span></figcaption></figure>"
    )


def of(iterable: Iterable[Result], report: Report) -> Iterable[Result]:
    """Writes the report while the results pass through, and whatever ends them."""
    try:
        for result in iterable:
            report.add(result)
            yield result
    finally:
        report.write()
