"""Jobs to files, each result as it comes: what is finished is not made again, and one that fails does not stop the others."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from ..atomic import check_writable, only_here
from ..checks import check_integer
from ..errors import InputError
from ..media.images import read_image
from ..media.saving import read_settings
from ..pipeline.clip import Clip
from .jobs import Job, Refused, read_jobs
from .work import JOB_KEY, Worker, check_settings

if TYPE_CHECKING:
    from ..pipeline.progress import Progress

AHEAD = 2  # jobs whose pictures are read while another one is made, and clips that wait to be written


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


def render(
    jobs: "str | os.PathLike[str] | Sequence[Mapping[str, Any]]",
    out: str | os.PathLike[str],
    *,
    defaults: Mapping[str, Any] | None = None,
    device: str = "auto",
    retries: int = 0,
    ray: str | None = None,
    stop: Event | None = None,
    on_progress: "Progress | None" = None,
) -> Iterator[Result]:
    """Yields a Result for each job, in the order they are finished.

    jobs      a .jsonl or .csv file, a folder of pictures, or a list of mappings; `defaults` stand behind each
    retries   how often a job is tried again that failed for another reason than what it asks for
    ray       the address of a Ray cluster, or "local" for one on this machine, in place of this process
    stop      set it, and no further job begins
    """
    read = read_jobs(jobs, defaults)
    return render_jobs(read, out, device=device, retries=retries, ray=ray, stop=stop, on_progress=on_progress)


def render_jobs(
    read: "list[Job | Refused]",
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    retries: int = 0,
    ray: str | None = None,
    stop: Event | None = None,
    on_progress: "Progress | None" = None,
) -> Iterator[Result]:
    """Of jobs that `read_jobs` has read."""
    retries = check_integer("retries", retries, 0, 100)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"The folder {folder} cannot be made ({error}); give another.") from error
    check_writable(folder / "results.jsonl")
    return _alone(folder, _render(read, folder, Worker(device), retries, ray, stop or Event(), on_progress))


def _alone(folder: Path, results: Iterator[Result]) -> Iterator[Result]:
    with only_here(folder):
        yield from results


def _render(
    read: "list[Job | Refused]",
    folder: Path,
    worker: Worker,
    retries: int,
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
        yield from render_here(todo, folder, worker, retries, stop, on_progress)


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


def failed(job: Job, error: str, seconds: float = 0.0) -> Result:
    return Result(job.number, job.name, job.where, "failed", error=error, seconds=seconds)


def render_here(
    jobs: list[Job], folder: Path, worker: Worker, retries: int, stop: Event, on_progress: "Progress | None"
) -> Iterator[Result]:
    """The next jobs' pictures are read, and the last clips written, while one is made."""
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        ahead = {job.number: reading.submit(read_ahead, job) for job in jobs[:AHEAD]}
        written: list[Future[Result]] = []
        for index, job in enumerate(jobs):
            if stop.is_set():
                break
            for later in jobs[index + 1 : index + 1 + AHEAD]:
                ahead.setdefault(later.number, reading.submit(read_ahead, later))
            begun = monotonic()
            try:
                pictures, fingerprint = ahead.pop(job.number).result()
                clip = _tried(job, worker, pictures, retries, on_progress)
            except Exception as error:
                yield failed(job, f"{job.where}: {in_words(error)}", monotonic() - begun)
                continue
            written.append(writing.submit(_write, job, clip, fingerprint, folder, begun))
            while written and (written[0].done() or len(written) > AHEAD):
                yield written.pop(0).result()
        yield from (each.result() for each in written)


def read_ahead(job: Job) -> tuple[list[Any], str]:
    """The job's pictures, and its fingerprint before it is made: what changes on the disk afterwards is another job's."""
    return [read_image(path) for path in job.images], job.fingerprint()


def _tried(job: Job, worker: Worker, pictures: list[Any], retries: int, on_progress: "Progress | None") -> Clip:
    for left in range(retries, -1, -1):
        try:
            return worker.make(job, pictures, on_progress)
        except InputError:
            raise
        except Exception:
            if not left:
                raise
    raise AssertionError("the loop returns or raises")


def _write(job: Job, clip: Clip, fingerprint: str, folder: Path, begun: float) -> Result:
    settings = {**clip.settings, JOB_KEY: fingerprint}
    path = folder / job.file
    try:
        Clip(clip.frames, clip.fps, settings).save(path)
    except Exception as error:
        return failed(job, f"{job.where}: {in_words(error)}", monotonic() - begun)
    return Result(job.number, job.name, job.where, "made", path, seconds=monotonic() - begun, settings=settings)


def in_words(error: BaseException) -> str:
    """Refusals are sentences; of anything else the kind is told too."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
