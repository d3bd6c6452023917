"""Jobs to files, each result as it comes: what is finished is not made again, and one that fails does not stop the others."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from ..atomic import check_writable, only_here
from ..checks import check_integer
from ..errors import InputError
from ..media.saving import read_settings
from .jobs import Job, Refused, read_jobs
from .result import Result, failed
from .work import JOB_KEY, Worker, check_settings

if TYPE_CHECKING:
    from ..pipeline.progress import Progress

MOST_AT_ONCE = 64


def render(
    jobs: "str | os.PathLike[str] | Sequence[Mapping[str, Any]]",
    out: str | os.PathLike[str],
    *,
    defaults: Mapping[str, Any] | None = None,
    device: str = "auto",
    retries: int = 0,
    at_once: int | None = None,
    ray: str | None = None,
    stop: Event | None = None,
    on_progress: "Progress | None" = None,
) -> Iterator[Result]:
    """Yields a Result for each job, in the order they are finished.

    jobs      a .jsonl or .csv file, a folder of pictures, or a list of mappings; `defaults` stand behind each
    retries   how often a job is tried again that failed for another reason than what it asks for
    at_once   clips that are made at the same time, each with its own copy of the model and its share of the CPU's threads;
              None: one, and of small models on a CPU one to a thread, up to four
    ray       the address of a Ray cluster, or "local" for one on this machine, in place of this process
    stop      set it, and no further job begins
    """
    read = read_jobs(jobs, defaults)
    return render_jobs(
        read, out, device=device, retries=retries, at_once=at_once, ray=ray, stop=stop, on_progress=on_progress
    )


def render_jobs(
    read: "list[Job | Refused]",
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    retries: int = 0,
    at_once: int | None = None,
    ray: str | None = None,
    stop: Event | None = None,
    on_progress: "Progress | None" = None,
) -> Iterator[Result]:
    """Of jobs that `read_jobs` has read."""
    retries = check_integer("retries", retries, 0, 100)
    if at_once is not None:
        at_once = check_integer("at_once", at_once, 1, MOST_AT_ONCE)
        if ray is not None:
            raise InputError("at_once is for this machine alone, and ray is given too; leave one of them out.")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"The folder {folder} cannot be made ({error}); give another.") from error
    check_writable(folder / "results.jsonl")
    return _alone(folder, _render(read, folder, Worker(device), retries, at_once, ray, stop or Event(), on_progress))


def _alone(folder: Path, results: Iterator[Result]) -> Iterator[Result]:
    with only_here(folder):
        yield from results


def _render(
    read: "list[Job | Refused]",
    folder: Path,
    worker: Worker,
    retries: int,
    at_once: int | None,
    ray: str | None,
    stop: Event,
    on_progress: "Progress | None",
) -> Iterator[Result]:
    refused: list[Result] = []

    def refuse(job: Job, error: str) -> None:
        refused.append(failed(job, f"{job.where}: {error}"))

    yield from (
        Result(job.number, job.name, job.where, "failed", error=job.error) for job in read if isinstance(job, Refused)
    )
    wanted = by_model([job for job in read if isinstance(job, Job)])
    accepted = check_settings(wanted, worker, refuse)
    yield from refused
    todo = []
    for job in accepted:
        try:
            kept = already_made(job, folder)
        except (InputError, OSError) as error:
            yield failed(job, f"{job.where}: {error}")
            continue
        if kept is None:
            todo.append(job)
        else:
            yield kept
    if ray is not None:
        from .cluster import render_on_ray

        yield from render_on_ray(todo, folder, ray, retries, stop)
    else:
        from .here import clips_at_once, render_here

        count = clips_at_once(accepted, worker) if at_once is None else at_once
        workers = [worker, *(Worker(worker.device) for _ in range(count - 1))]
        yield from render_here(todo, folder, workers, retries, stop, on_progress)


def by_model(jobs: list[Job]) -> list[Job]:
    """Jobs of one model behind one another, models and jobs otherwise in the given order."""
    models = list(dict.fromkeys(job.model for job in jobs))
    return sorted(jobs, key=lambda job: models.index(job.model))


def already_made(job: Job, folder: Path) -> Result | None:
    """The job's result of an earlier run. A file of the same name that is not its own is not overwritten."""
    path = folder / job.file
    if not os.path.exists(path):
        return None
    settings = read_settings(path)
    if JOB_KEY not in settings:
        raise InputError(
            f"{path} exists and is not the result of a batch; give the job another name, or another folder."
        )
    if settings[JOB_KEY] != job.fingerprint():
        return None
    return Result(job.number, job.name, job.where, "kept", path, settings=settings)
