"""A page that shows how a run is doing: curves of every figure in the log, and the newest samples. It reloads itself."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..atomic import written_whole

_WIDTH, _HEIGHT = 520, 180
_HIDDEN = {"total", "stage", "step", "seconds", "kind"}
_STYLE = (
    "body{font:15px system-ui;margin:2em;max-width:1150px}h2{margin-top:2em}figure{display:inline-block;margin:0 1em 1em 0}"
    "figcaption{color:#555}svg{background:#f6f6f6}img{image-rendering:pixelated;display:block;height:96px}"
)


def write_report(
    path: Path, title: str, status: str, entries: Sequence[Mapping[str, Any]], samples: Sequence[tuple[str, Tensor]]
) -> None:
    """`samples` are (caption, clip [3,T,H,W] in -1..1)."""
    stages = list(dict.fromkeys(entry["stage"] for entry in entries))
    body = [f"<h1>{html.escape(title)}</h1><p>{html.escape(status)}</p>"]
    for stage in reversed(stages):
        mine = [entry for entry in entries if entry["stage"] == stage]
        names = list(dict.fromkeys(name for entry in mine for name in entry if name not in _HIDDEN))
        curves = "".join(_curve(name, [(e["step"], e[name]) for e in mine if name in e]) for name in names)
        body.append(f"<h2>{html.escape(str(stage))}</h2>{curves}")
    if samples:
        body.append("<h2>Newest samples</h2>" + "".join(_strip(caption, clip) for caption, clip in samples))
    page = f"<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=60><title>{html.escape(title)}</title>"
    with written_whole(path) as part:
        part.write_text(f"{page}<style>{_STYLE}</style>{''.join(body)}", encoding="utf-8")


def _curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    points = [(x, float(y)) for x, y in points if math.isfinite(float(y))]
    if not points:
        return ""
    low, high = min(y for _, y in points), max(y for _, y in points)
    first, last = points[0][0], points[-1][0]
    wide, tall = max(last - first, 1), (high - low) or 1.0
    line = " ".join(
        f"{(x - first) / wide * (_WIDTH - 20) + 10:.1f},{(high - y) / tall * (_HEIGHT - 20) + 10:.1f}"
        for x, y in points
    )
    words = f"{name}: {points[-1][1]:.4g} at step {last:g} ({low:.4g} to {high:.4g})"
    return (
        f"<figure><svg width={_WIDTH} height={_HEIGHT}><polyline points='{line}' fill=none stroke=#1565c0 stroke-width=1.5 /></svg>"
        f"<figcaption>{html.escape(words)}</figcaption></figure>"
    )


def _strip(caption: str, clip: Tensor) -> str:
    from PIL import Image

    pixels = ((clip.permute(2, 1, 3, 0).flatten(1, 2).float().cpu() + 1) * 127.5).clamp(0, 255).byte().numpy()
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    data = base64.b64encode(held.getvalue()).decode()
    return f"<figure><img src='data:image/png;base64,{data}'><figcaption>{html.escape(caption)}</figcaption></figure>"
