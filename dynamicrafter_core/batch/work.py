"""One job made: the same on this machine and on a worker of a cluster."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..camera.camera import Camera
from ..errors import InputError
from ..media.images import read_image
from ..pipeline.clip import Clip
from ..pipeline.pipeline import Pipeline
from ..pipeline.settings import settle
from .jobs import Job, Model

if TYPE_CHECKING:
    from ..media.images import ImageSource
    from ..pipeline.progress import Progress

JOB_KEY = "job"  # of a job's fingerprint among the settings in its file


@dataclass
class Worker:
    """Keeps the model of the last job open."""

    device: str = "auto"
    _model: Model | None = None
    _pipeline: Pipeline | None = None
    _refused: dict[Model, InputError] = field(default_factory=dict)

    def open(self, model: Model) -> Pipeline:
        if model in self._refused:
            raise self._refused[model]
        if self._pipeline is None or model != self._model:
            if self._pipeline is not None:
                self._pipeline.release()
            self._model, self._pipeline = None, None  # so that two never share the memory
            try:
                self._pipeline = Pipeline(
                    model.model,
                    model.variant,
                    self.device,
                    model.dtype,
                    extra=model.extra,
                    initial_noise=model.initial_noise,
                )
            except InputError as error:
                self._refused[model] = error
                raise
            self._model = model
        return self._pipeline

    def make(self, job: Job, images: "list[ImageSource] | None" = None, on_progress: "Progress | None" = None) -> Clip:
        """`images`: the job's, where they were read ahead."""
        pipeline = self.open(job.model)
        given: list[Any] = list(images or job.images)
        if job.guide is not None:
            given.append(Camera(**job.guide) if isinstance(job.guide, Mapping) else job.guide)
        options = {**job.options, "on_progress": on_progress}
        return getattr(pipeline, job.mode)(*given, prompt=job.prompt, **options)


def read_pictures(job: Job) -> tuple[list[Any], str]:
    """The job's pictures, and its fingerprint before it is made: what changes on the disk afterwards is another job's."""
    return [read_image(path) for path in job.images], job.fingerprint()


def check_settings(jobs: list[Job], worker: Worker, refuse: Callable[[Job, str], None]) -> list[Job]:
    """Those whose figures their model accepts; of each model only the file's head is read."""
    accepted = []
    for job in jobs:
        try:
            pipeline = worker.open(job.model)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is merely unwise is told when the job is made
                settle(pipeline.family, job.mode, job.prompt, job.options, None, pipeline.multiple)  # type: ignore[arg-type]
                if isinstance(job.guide, Mapping):
                    Camera(**job.guide).check()
        except InputError as error:
            refuse(job, str(error))
        else:
            accepted.append(job)
    return accepted
