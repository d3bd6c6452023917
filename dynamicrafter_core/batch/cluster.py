"""Jobs on a Ray cluster: an actor per GPU keeps its model, and Ray schedules, restarts and retries.

Pictures travel with the job and finished files with the result, through Ray's object store: workers share no folder with this
process, only the models' paths. Files are written here alone, so that no two processes write one.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import monotonic
from typing import Any

from ..atomic import written_whole
from ..errors import InputError
from ..pipeline.clip import Clip
from .jobs import Job
from .result import Result, failed, in_words
from .work import JOB_KEY, Worker, read_pictures

LOST = 20  # times that a worker may be lost under one job before the job counts as failed
POLL = 1.0  # seconds between looks at whether to stop


def render_on_ray(jobs: list[Job], folder: Path, address: str, retries: int, stop: Event) -> Iterator[Result]:
    ray = _connect(address)
    if not jobs:
        return
    pool = _workers(ray, len(jobs))
    waiting, idle = list(jobs), list(pool)
    running: dict[Any, tuple[Job, Any, float]] = {}
    tries: dict[int, int] = {}
    while running or (waiting and not stop.is_set()):
        while idle and waiting and not stop.is_set():
            job, worker = waiting.pop(0), idle.pop(0)
            try:
                pictures, fingerprint = read_pictures(job)
            except (InputError, OSError) as error:
                idle.insert(0, worker)
                yield failed(job, f"{job.where}: {in_words(error)}")
                continue
            running[worker.make.remote(job, [picture.numpy() for picture in pictures], fingerprint)] = (
                job,
                worker,
                monotonic(),
            )
        ready, _ = ray.wait(list(running), timeout=POLL)
        for each in ready:
            job, worker, begun = running.pop(each)
            idle.append(worker)
            seconds = monotonic() - begun
            try:
                content, settings = ray.get(each)
            except Exception as error:
                cause = getattr(error, "cause", None) or error
                if not isinstance(cause, InputError) and tries.get(job.number, 0) < retries:
                    tries[job.number] = tries.get(job.number, 0) + 1
                    waiting.insert(0, job)
                else:
                    yield failed(job, f"{job.where}: {in_words(cause)}", seconds)
                continue
            try:
                with written_whole(folder / job.file) as part:
                    part.write_bytes(content)
            except InputError as error:
                yield failed(job, f"{job.where}: {error}", seconds)
                continue
            yield Result(job.number, job.name, job.where, "made", folder / job.file, seconds=seconds, settings=settings)


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError(f"Ray cannot be loaded ({error}); run 'pip install \"dynamicrafter[ray]\"'.") from error
    if not ray.is_initialized():
        where = None if address == "local" else address
        if where is None:  # a cluster of its own reports to nobody, unless told to
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise InputError(
                f"There is no Ray cluster at {address!r} ({error}); give host:port of one, 'auto' on one of its machines, or local."
            ) from error
    return ray


def _workers(ray: Any, jobs: int) -> list[Any]:
    """One for each GPU of the cluster; without any, one for every two processors."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    count = min(jobs, gpus or max(1, int(resources.get("CPU", 1)) // 2))
    needs = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    actor = ray.remote(max_restarts=-1, max_task_retries=LOST, scheduling_strategy="SPREAD", **needs)(RemoteWorker)
    return [actor.remote() for _ in range(count)]


class RemoteWorker:
    """What an actor runs: a job and its pictures in, the finished file's bytes and the settings out."""

    def __init__(self) -> None:
        self._worker = Worker()

    def make(self, job: Job, pictures: list[Any], fingerprint: str) -> tuple[bytes, dict[str, Any]]:
        import torch

        clip = self._worker.make(job, [torch.from_numpy(picture.copy()) for picture in pictures])
        settings = {**clip.settings, JOB_KEY: fingerprint}
        with TemporaryDirectory() as folder:
            path = Clip(clip.frames, clip.fps, settings).save(Path(folder, job.file))
            return path.read_bytes(), settings
