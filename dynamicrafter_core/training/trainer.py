"""The loop. A run is a function of its recipe and its step: stopped anywhere, it goes on as if it had never been stopped."""

import copy
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..devices import DTYPES, pick_device, pick_training_dtype
from ..errors import InputError
from .answers import answer
from .checkpointing import checkpoint_stages
from .clips import Clips
from .critic import Critic
from .distillation import distillation_loss
from .evaluate import evaluate
from .generate import Dials
from .inputs import encode_clips
from .lora import attach_lora, save_lora
from .model import (
    Model,
    align_latents,
    change_model,
    check_changes,
    check_latents,
    make_model,
    normalise_latents,
    save_model,
)
from .objectives import Rows, TowerHeads, autoencoder_loss, diffusion_loss, towers_loss
from .optimiser import Optimiser
from .ranks import Ranks, local_device
from .recipe import Recipe, Stage
from .report import write_report
from .seeds import seed_of
from .sources import make_source
from .state import Position, RunFolder, seconds_as_words

SAMPLED = ("diffusion", "distillation")  # objectives after which clips can be made
Progress = Callable[[str], object]


class Trainer:
    def __init__(
        self, recipe: Recipe, folder: Path, device: str = "auto", on_progress: Progress | None = None, command: str = ""
    ) -> None:
        self.recipe, self.command, self.tell = recipe, command, on_progress or (lambda line: None)
        self.device = local_device(pick_device(device))
        self.ranks = Ranks(self.device)
        self.dtype = pick_training_dtype(recipe.precision, self.device)
        self.model: Model = make_model(recipe, self.device, self.dtype, grown=False)
        check_changes(self.model, recipe)
        self.folder = RunFolder(folder, recipe.source)
        self.position = Position()
        self.samples: list[tuple[str, Tensor]] = []
        self.stopped = False
        self.so_far: Path | None = None  # the averaged weights of a run that was stopped
        self.before: Model | None = None  # the autoencoder as the stage found it
        saved = self.folder.load()
        self.waiting: dict[str, Tensor] = {}  # of the optimiser, until its stage begins
        if saved is not None:
            self.waiting, self.position = saved
            if self.ranks.first:
                self.folder.forget_after(self.total)
        for stage in recipe.stages[: self.position.stage]:
            self._begin(stage)
        if not self.position.step:
            self._load_model()
        if self.position.stage < len(recipe.stages):
            self._begin(recipe.stages[self.position.stage])
        if self.position.step:
            self._load_model()
        self.lora = attach_lora(self.model, recipe.lora, recipe.seed) if recipe.lora else None
        if self.lora is not None and saved is not None:
            self.lora.load_state_dict(_without("lora.", self.waiting))
        self.resumed_at = time.monotonic()
        self.seconds_before = self.position.seconds

    def _begin(self, stage: Stage) -> None:
        """What a stage changes in the model before its first step."""
        recipe, index = self.recipe, self.recipe.stages.index(stage)
        self.before = None
        if stage.align or stage.anchor:
            learned = recipe.initial and "autoencoder" not in recipe.model
            if not learned and not any(each.objective == "autoencoder" for each in recipe.stages[:index]):
                raise InputError(
                    f"Stage {stage.name} aligns or anchors its latents to those of an autoencoder that has learned "
                    "nothing; leave align and anchor out."
                )
            found = copy.deepcopy(self.model.part("autoencoder")).requires_grad_(False)
            self.before = Model(self.model.family, {"autoencoder": found})
        self.model = change_model(self.model, recipe.growth_before(stage), stage.figures, recipe.seed)
        self.schedule = self.model.family.schedule()

    def _load_model(self) -> None:
        """From the state of a run that was stopped, where there is one."""
        if self.waiting:
            self.model.load_state(_without("model.", self.waiting))
            if self.before is not None:
                self.before.load_state(_without("before.", self.waiting))

    @property
    def total(self) -> int:
        """Steps done, of all stages."""
        return sum(stage.steps for stage in self.recipe.stages[: self.position.stage]) + self.position.step

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.resumed_at

    def run(self, minutes: float | None = None) -> Path | None:
        """Train to the end, or for so many minutes; the result's path, or None where there is more to do."""
        deadline = None if minutes is None else time.monotonic() + 60 * minutes
        while self.position.stage < len(self.recipe.stages):
            if not self._stage(self.recipe.stages[self.position.stage], deadline):
                return None
            self.position.stage, self.position.step = self.position.stage + 1, 0
            self._save({})
            if self.position.stage < len(self.recipe.stages):
                self._begin(self.recipe.stages[self.position.stage])
        return self.export(self.folder.path / "model.safetensors") if self.ranks.first else None

    def export(self, path: Path, averages: dict[str, Tensor] | None = None) -> Path:
        """The result as one file: the model, or the LoRA."""
        notes = {
            "license": "Apache-2.0",
            "recipe": self.recipe.source,
            "seed": str(self.recipe.seed),
            "command": self.command,
            "steps": str(self.total),
        }
        if self.lora is not None:
            return save_lora(path, self.lora, notes)
        return save_model(path, self.model, averages or {}, DTYPES[self.recipe.dtype], notes)

    def _stage(self, stage: Stage, deadline: float | None) -> bool:
        """True when the stage is done, False when time is up."""
        recipe, ranks = self.recipe, self.ranks
        if stage.objective in SAMPLED or stage.answers:
            check_latents(self.model)
        source = make_source({**recipe.data, **stage.data}, recipe.seed, self.device)
        heads = self._heads(stage)
        trained = self._trainable(stage, heads)
        for parameter in trained.values():
            parameter.requires_grad_(True)
        optimiser = Optimiser(trained, stage, ranks)
        if self.waiting:
            if heads is not None:
                heads.load_state_dict(_without("heads.", self.waiting))
            if self.position.step:
                optimiser.load_state(self.waiting)
            self.waiting = {}
        if "unet" in self.model.parts:
            checkpoint_stages(self.model.part("unet"), stage.checkpointing)
        evaluates = stage.objective != "towers"
        held_out = source("held-out", range(recipe.evaluate_clips)) if ranks.first and evaluates else None
        shares = _Shares(stage, source, ranks)
        saved_at = logged_at = time.monotonic()
        clips_since = 0
        while self.position.step < stage.steps:
            step = self.position.step
            torch.manual_seed(seed_of(recipe.seed, stage.name, step, ranks.rank))  # of dropout in the network
            loss, figures = self._step(stage, shares, heads, optimiser, step)
            self.position.step += 1
            self.position.clips += stage.batch
            clips_since += stage.batch
            done = self.position.step
            if done % recipe.log_every == 0 or done == stage.steps:
                now = time.monotonic()
                rate, logged_at, clips_since = clips_since / max(now - logged_at, 1e-6), now, 0
                self._log(stage, {"loss": loss, **figures, "clips_per_second": rate}, rate)
            if evaluates and (done % recipe.evaluate_every == 0 or done == stage.steps):
                with optimiser.averaged():
                    if held_out is not None:
                        self._evaluate(stage, held_out)
            up = ranks.agree(self.stopped or (deadline is not None and time.monotonic() >= deadline))
            due = ranks.agree(time.monotonic() - saved_at >= recipe.save_seconds)
            if done < stage.steps and (up or due):
                before = {} if self.before is None else self.before.state()
                kept = {f"before.{name}": tensor for name, tensor in before.items()}
                self._save({**optimiser.state(), **_prefixed("heads.", heads), **kept})
                saved_at = time.monotonic()
            if up and done < stage.steps:
                shares.close()
                if stage.objective in SAMPLED:
                    with optimiser.averaged():
                        self.so_far = self.export(self.folder.so_far) if ranks.first else None
                return False
        shares.close()
        self._finish(stage, source, optimiser, trained)
        return True

    def _step(
        self, stage: Stage, shares: "_Shares", heads: nn.Module | None, optimiser: Optimiser, step: int
    ) -> tuple[Tensor, dict[str, Any]]:
        total = torch.zeros((), device=self.device)
        figures: dict[str, Any] = {}
        parts = shares.parts(step, self._latents if stage.objective in SAMPLED else None)
        for numbers, batch in parts:
            rows: Rows = [(self.recipe.seed, stage.name, step, number) for number in numbers]
            match stage.objective:
                case "autoencoder":
                    before = self.before.part("autoencoder") if self.before is not None and stage.anchor else None
                    critic = heads if isinstance(heads, Critic) else None
                    answers = answer(self.model, batch, stage, rows) if stage.answers else None
                    loss, figures = autoencoder_loss(self.model, batch, stage, rows, before, critic, answers)
                case "towers":
                    assert isinstance(heads, TowerHeads)
                    loss, figures = towers_loss(self.model, heads, batch, rows)
                case "distillation":
                    assert self.lora is not None
                    loss, figures = distillation_loss(self.model, self.lora, batch, stage, self.schedule, rows)
                case _:
                    loss, figures = diffusion_loss(self.model, batch, stage, self.schedule, rows)
            (loss / len(parts)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / len(parts)
            optimiser.collect()
        self.ranks.average([*optimiser.gradients, total])
        norm, rate = optimiser.step(step)
        return total, {**figures, "gradient": norm, "lr": rate}

    def _latents(self, clips: Clips, numbers: range) -> Any:
        return encode_clips(self.model, clips, [(self.recipe.seed, "latents", number) for number in numbers])

    def _trainable(self, stage: Stage, heads: nn.Module | None) -> dict[str, nn.Parameter]:
        if self.lora is not None:
            return {f"lora.{name}": parameter for name, parameter in self.lora.named_parameters()}
        chosen = self.model.select(stage.train)
        return chosen | ({} if heads is None else {f"heads.{name}": p for name, p in heads.named_parameters()})

    def _heads(self, stage: Stage) -> nn.Module | None:
        """What learns beside the model in a stage, and is not kept."""
        torch.manual_seed(seed_of(self.recipe.seed, "heads"))
        if stage.objective == "autoencoder" and stage.adversarial:
            return Critic().to(self.device)
        if stage.objective != "towers":
            return None
        projector = self.model.part("projector").config
        return TowerHeads(self.model.part("text").config.width, projector.output_dim, projector.queries).to(self.device)

    def _finish(self, stage: Stage, source: Any, optimiser: Optimiser, trained: dict[str, nn.Parameter]) -> None:
        """A stage ends in its averaged weights; an autoencoder's latents in the spread that diffusion expects."""
        optimiser.adopt_average()
        for parameter in trained.values():
            parameter.requires_grad_(False)
        if stage.objective == "autoencoder":
            clips = source("train", range(64))
            frames = clips.pixels[:, :, :: max(1, clips.pixels.shape[2] // 2)].transpose(1, 2).flatten(0, 1)
            if stage.align and self.before is not None:
                found = self.before.part("autoencoder")
                align_latents(self.model.part("autoencoder"), found, frames.to(self.dtype))
            normalise_latents(self.model.part("autoencoder"), frames.to(self.dtype))

    def _evaluate(self, stage: Stage, clips: Clips) -> None:
        rows = [(self.recipe.seed, "evaluation", number) for number in range(self.recipe.evaluate_clips)]
        result = evaluate(self.model, clips, stage, rows, Dials(steps=self.recipe.sample_steps))
        if result.strips is not None:
            self.samples = list(zip(result.captions, result.strips.cpu(), strict=True))
        if result.figures:
            self._write({"kind": "evaluation", **result.figures}, stage)
            self.tell(
                f"{stage.name} {self.position.step}: " + ", ".join(f"{n} {v:.4g}" for n, v in result.figures.items())
            )
        self._report(f"{stage.name}, step {self.position.step} of {stage.steps}")

    def _log(self, stage: Stage, figures: dict[str, Any], clips_per_second: float) -> None:
        if not self.ranks.first:
            return
        self._write({"kind": "training", **figures}, stage)
        here = self.recipe.stages[self.position.stage :]
        left = sum(each.steps * each.batch for each in here) - self.position.step * stage.batch
        self.tell(
            f"{stage.name} {self.position.step}/{stage.steps}  loss {float(figures['loss']):.4f}  "
            f"{clips_per_second:.1f} clips/s  about {seconds_as_words(left / clips_per_second)} left"
        )

    def _write(self, figures: dict[str, Any], stage: Stage) -> None:
        self.folder.log(
            {"total": self.total, "stage": stage.name, "step": self.position.step, "seconds": self.seconds, **figures}
        )

    def _report(self, status: str) -> None:
        words = f"{status}; {self.position.clips} clips in {seconds_as_words(self.seconds)}"
        write_report(self.folder.path / "report.html", self.recipe.name, words, self.folder.entries(), self.samples)

    def _save(self, more: dict[str, Tensor]) -> None:
        if not self.ranks.first:
            return
        self.position.seconds = self.seconds
        state = {f"model.{name}": tensor for name, tensor in self.model.state().items()}
        self.folder.save({**state, **_prefixed("lora.", self.lora), **more}, self.position)


class _Shares:
    """This process's part of every batch, the next one drawn while the present one is trained on."""

    def __init__(self, stage: Stage, source: Callable[..., Clips], ranks: Ranks) -> None:
        self.stage, self.source, self.ranks = stage, source, ranks
        self.pool = ThreadPoolExecutor(1)
        self.drawn: dict[int, Future[list[Clips]]] = {}
        self.held: tuple[int, list[Any]] | None = None

    def numbers(self, index: int) -> list[range]:
        """The clips of batch `index`, in portions that fit at once."""
        mine = self.ranks.share(range(index * self.stage.batch, (index + 1) * self.stage.batch))
        size = self.stage.micro or len(mine)
        return [mine[start : start + size] for start in range(0, len(mine), size)]

    def parts(self, step: int, prepare: Callable[[Clips, range], Any] | None) -> list[tuple[range, Any]]:
        index = step // self.stage.reuse
        numbers = self.numbers(index)
        if self.held is None or self.held[0] != index:
            clips = (self.drawn.pop(index, None) or self._draw(index)).result()
            prepared = [prepare(each, n) if prepare else each for each, n in zip(clips, numbers, strict=True)]
            self.held = (index, prepared)
            self.drawn = {index + 1: self._draw(index + 1)}
        return list(zip(numbers, self.held[1], strict=True))

    def _draw(self, index: int) -> "Future[list[Clips]]":
        return self.pool.submit(lambda: [self.source("train", numbers) for numbers in self.numbers(index)])

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def _prefixed(prefix: str, module: nn.Module | None) -> dict[str, Tensor]:
    return {} if module is None else {prefix + name: tensor for name, tensor in module.state_dict().items()}


def _without(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
