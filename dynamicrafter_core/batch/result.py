"""What became of a job."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError
from .jobs import Job


@dataclass(frozen=True)
class Result:
    number: int
    name: str
    where: str
    state: Literal["made", "kept", "failed"]  # kept: made by an earlier run
    path: Path | None = None
    error: str | None = None
    seconds: float = 0.0
    settings: Mapping[str, Any] | None = None


def failed(job: Job, error: str, seconds: float = 0.0) -> Result:
    return Result(job.number, job.name, job.where, "failed", error=error, seconds=seconds)


def in_words(error: BaseException) -> str:
    """Refusals are sentences; of anything else the kind is told too."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
