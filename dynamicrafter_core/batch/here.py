"""Jobs on this machine: pictures are read before their clip's turn and clips written after it, while others are made."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any

import torch

from ..devices import pick_device
from ..errors import InputError
from ..pipeline.clip import Clip
from .jobs import Job
from .result import Result, failed, in_words
from .work import JOB_KEY, Worker, read_pictures

if TYPE_CHECKING:
    from ..pipeline.progress import Progress

AHEAD = 2  # jobs that are read, or written, besides those that are made
SMALL = 100 << 20  # bytes of a model's files up to which clips are made one to a CPU thread
MOST = 4  # of them: Python runs one thread at a time, and the others wait for it
POLL = 1.0  # seconds after which a signal is seen on systems where waiting holds it up


class _HaltedError(Exception):
    """Nobody waits for the clip any more."""


def clips_at_once(jobs: Sequence[Job], worker: Worker) -> int:
    """The threads of a CPU do more with a small clip each than with one clip together."""
    if pick_device(worker.device).type != "cpu":
        return 1
    for model in dict.fromkeys(job.model for job in jobs):
        files: list[Any] = [worker.open(model).path, *model.extra]
        if sum(Path(file).stat().st_size for file in files) > SMALL:
            return 1
    return min(torch.get_num_threads(), MOST)


def render_here(
    jobs: list[Job], folder: Path, workers: list[Worker], retries: int, stop: Event, on_progress: "Progress | None"
) -> Iterator[Result]:
    """Each worker has its own copy of the model and its share of the threads. `on_progress` is told of the first's work."""
    threads = torch.get_num_threads()
    idle: SimpleQueue[Worker] = SimpleQueue()
    results: SimpleQueue[Result | BaseException | None] = SimpleQueue()
    halted = Event()

    def make(job: Job, read: "Future[tuple[list[Any], str]]") -> None:
        worker, begun = idle.get(), monotonic()

        def step(stage: str, done: int, total: int) -> None:
            if halted.is_set():
                raise _HaltedError
            if on_progress is not None and worker is workers[0]:
                on_progress(stage, done, total)

        try:
            pictures, fingerprint = read.result()
            if stop.is_set():
                results.put(None)
            else:
                clip = _tried(lambda: worker.make(job, pictures, step), retries)
                writing.submit(lambda: results.put(_write(job, clip, fingerprint, folder, begun)))
        except Exception as error:
            results.put(failed(job, f"{job.where}: {in_words(error)}", monotonic() - begun))
        except BaseException as error:
            results.put(error)
        finally:
            idle.put(worker)

    for worker in workers:
        idle.put(worker)
    waiting, under_way = iter(jobs), 0
    share = max(1, threads // len(workers))
    try:
        with _pool(1, 1) as reading, _pool(1, 1) as writing, _pool(len(workers), share) as making:
            try:
                while True:
                    while under_way < len(workers) + AHEAD and not stop.is_set() and (job := next(waiting, None)):
                        making.submit(make, job, reading.submit(read_pictures, job))
                        under_way += 1
                    if not under_way:
                        break
                    with suppress(Empty):
                        result = results.get(timeout=POLL)
                        under_way -= 1
                        if isinstance(result, BaseException):
                            raise result
                        if result is not None:
                            yield result
            finally:
                halted.set()
    finally:
        torch.set_num_threads(threads)


def _pool(size: int, threads: int) -> ThreadPoolExecutor:
    """Of threads that use so many of PyTorch's."""
    return ThreadPoolExecutor(size, initializer=torch.set_num_threads, initargs=(threads,))


def _tried(make: Callable[[], Clip], retries: int) -> Clip:
    for left in range(retries, -1, -1):
        try:
            return make()
        except (InputError, _HaltedError):
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
