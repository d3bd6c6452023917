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
from .render import Result

PAUSE = 2.0  # seconds between two writings while the batch runs
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222; background: #fff }
h1 { font-size: 1.4rem } .sum { margin: 1rem 0 } .failed p { color: #a00 }
.all { display: grid; grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); gap: 1rem }
figure { margin: 0 } video, img { width: 100%; background: #eee; border-radius: 4px } figcaption { font-size: 0.85rem }
.prompt { color: #666 } li { margin: 0.3rem 0 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } .failed p, li { color: #f88 } .prompt { color: #999 } }
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
        f"<title>Batch</title><style>{_STYLE}</style><h1>Batch</h1><p class=sum>{', '.join(parts)}</p>"
        + (f"<h2>Failed</h2><ul class=failed>{failed}</ul>" if failures else "")
        + f"<div class=all>{''.join(map(_figure, made))}</div></html>\n"
    )


def _figure(result: Result) -> str:
    assert result.path is not None
    source = quote(result.path.name)
    settings: Mapping[str, Any] = result.settings or {}
    seen = (
        f'<video src="{source}" muted loop autoplay playsinline preload="metadata"></video>'
        if result.path.suffix == ".mp4"
        else f'<img src="{source}" loading="lazy" alt="">'
    )
    figures = (
        f"seed {settings.get('seed')}, {settings.get('steps')} steps, {settings.get('width')}x{settings.get('height')}"
    )
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
