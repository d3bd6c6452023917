"""What a person at a terminal sees of a run: bars with the time left, notes, and numbers that can be read."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WORDS = {
    "text": "reading the prompt",
    "image": "looking at the image",
    "encode": "encoding the image",
    "denoise": "denoising",
    "decode": "decoding",
}


class Bars:
    """A progress callback: a bar for each stage on stderr, of which the long ones stay; nothing where no one looks."""

    def __init__(self, quiet: bool = False, unit: str = "it") -> None:
        self._hidden = True if quiet else None  # tqdm's None: unless stderr is a terminal
        self._unit = unit
        self._stage = ""
        self._bar: Any = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, self._open(stage, total)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _open(self, stage: str, total: int) -> Any:
        from tqdm import tqdm

        return tqdm(
            desc=_WORDS.get(stage, stage),
            total=total,
            unit=self._unit,
            unit_scale=self._unit == "B",
            leave=stage in ("denoise", "convert"),
            disable=self._hidden,
            file=sys.stderr,
        )


@contextmanager
def notes(quiet: bool = False) -> Iterator[None]:
    """Warnings of this package become one line each on stderr; others' are not for the person at the terminal."""
    package = Path(__file__).parent.parent

    def show(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
        if package in Path(filename).parents:
            tell(f"note: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "default")
        if not quiet:
            warnings.showwarning = show
        yield


def tell(line: str) -> None:
    """A line on stderr, above the bars."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)


def in_bytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
