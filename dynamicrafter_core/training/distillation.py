"""Few steps without guidance, learned from many steps with it (progressive distillation, Salimans & Ho 2022; Meng et al. 2022).

    x at the student's timestep  --- substeps of the teacher, each guided --->  x at the student's next timestep
                                 --------- one step of the student ---------->

The teacher is the model, the student the model with the LoRA that is trained: what it answers should lead it in one step to where the
teacher comes. A file of 4 steps is used with 4 steps, a text scale of 1 and eta 0.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion.guidance import Guidance
from ..diffusion.sampling import DDIM, executed_timesteps
from ..diffusion.schedule import NoiseSchedule
from .inputs import Conditioned, condition, encode_image, encode_text
from .lora import Lora
from .model import Model
from .objectives import Figures, Rows, predict
from .recipe import Distillation, Stage
from .seeds import normal, uniform


def distillation_loss(
    model: Model, lora: Lora, latents: Any, stage: Stage, schedule: NoiseSchedule, rows: Rows
) -> tuple[Tensor, Figures]:
    """Mean squared error of the student's answer, all of these clips at one of its timesteps."""
    given = condition(model, latents, stage, rows)
    student = DDIM(schedule, executed_timesteps(stage.distillation.steps, model.family.spacing), 0)
    k = int(uniform([(*rows[0], "timestep")], 1)[0, 0] * len(student))
    t = torch.full((len(given.z),), student.timesteps[k], device=given.z.device)
    noise = normal([(*row, "noise") for row in rows], *given.z.shape[1:], device=given.z.device)
    x = schedule.q_sample(given.z, t, noise)
    unet = model.part("unet")
    was_training = unet.training
    with torch.no_grad(), lora.silent():
        unet.eval()  # a teacher without dropout
        there = _teach(model, given, x, student, k, stage.distillation)
        unet.train(was_training)
    wanted = answer_that_leads(student, k, x, there)
    return F.mse_loss(predict(model, given, x, t), wanted), {}


def answer_that_leads(ddim: DDIM, k: int, x: Tensor, there: Tensor) -> Tensor:
    """The network's output with which step k leads from x to `there`; a step is linear in it."""
    one = torch.ones((), dtype=torch.float32)
    slope = float(ddim.step(k, 0 * one, one)[0])
    return (there - ddim.step(k, x, torch.zeros_like(x))[0]) / slope


def _teach(model: Model, given: Conditioned, x: Tensor, student: DDIM, k: int, settings: Distillation) -> Tensor:
    """Where the teacher's guided substeps lead from x, the student's state before its step k."""
    ends = [*student.timesteps, -1]  # behind timestep 0, as trailing timesteps are spaced
    between = torch.linspace(ends[k], ends[k + 1], settings.substeps + 1)[:-1].round().int().tolist()
    run = [*between, *student.timesteps[k + 1 :]]  # DDIM's last step is another, so the run goes on to its end
    ddim = DDIM(student.schedule, sorted(set(run)), 0)
    scale = model.family.cfg if settings.text_scale is None else settings.text_scale
    guidance = Guidance(scale, settings.image_scale, settings.rescale)
    branches = {name: _branch(model, given, name) for name in guidance.branches}
    for step in range(len(set(between))):
        t = torch.full((len(x),), ddim.timesteps[step], device=x.device)
        answers: dict[str, Any] = {name: predict(model, branch, x, t) for name, branch in branches.items()}
        x = ddim.step(step, x, guidance.combine(**answers))[0]
    return x


def _branch(model: Model, given: Conditioned, name: str) -> Conditioned:
    """The conditions without text, or without text and image."""
    if name == "cond":
        return given
    unsaid = encode_text(model, [""] * len(given.z))
    image = given.image
    if name == "uncond" and image is not None:
        size = (model.family.height, model.family.width)
        grey = torch.zeros(1, 3, *size, device=given.z.device)
        image = encode_image(model, grey, given.z.shape[2]).expand_as(image)
    return replace(given, text=unsaid, image=image)
