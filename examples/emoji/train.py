"""Train a small Flag-DiT that paints emoji: coarse pictures first, then fine ones, by the clock.

`python examples/emoji/train.py` resumes where it stopped; the average of the weights in the run
folder (model.safetensors, config.json) is what `flagdit export` reads.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from data import PROMPTS, Batch, EmojiData
from flagdit.export import FlagDiT, FlagDiTConfig
from sampling import contact_sheet, sample
from state import TrainState

CONFIG = FlagDiTConfig(
    dim=256,
    n_layers=8,
    n_heads=4,
    patch_size=4,
    in_channels=3,
    learn_sigma=False,
    cap_feat_dim=384,
    multiple_of=128,
)
CAPTION_DROPOUT = 0.1
CLIP = 1.0
AVERAGE = 0.998
WARM_UP = 200  # steps

Model = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Stage:
    """One resolution: how long, how many pictures a step, and the learning rate's peak and end.

    `noise` shifts the log-normal times towards noise: larger pictures need more of it.
    """

    resolution: int
    minutes: float
    batch: int
    peak: float
    end: float
    noise: float = 0.0

    def learning_rate(self, done: float, step: int) -> float:
        """Constant, then a cosine over the last half; `done` is the part of the stage behind us."""
        phase = max(0.0, min(1.0, 2 * done - 1))
        rate = self.end + (self.peak - self.end) * (1 + math.cos(math.pi * phase)) / 2
        return rate * min(1.0, (step + 1) / WARM_UP)


def flow_loss(model: Model, batch: Batch, noise_shift: float, generator: torch.Generator) -> Tensor:
    """Mean squared error of the velocity: x_t = t x1 + (1 - t) x0, target x1 - x0."""
    x1, text, mask = (torch.from_numpy(a) for a in (batch.images, batch.text, batch.mask))
    x0 = torch.randn(x1.shape, generator=generator)
    t = torch.sigmoid(torch.randn(len(x1), generator=generator) - noise_shift)
    mix = t[:, None, None, None]
    # The fused attention's backward on CPU takes as long as the rest of the step; this does not.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        velocity = model(mix * x1 + (1 - mix) * x0, t, text, mask)
    return (velocity.float() - (x1 - x0)).square().mean()


class Trainer:
    """One run: the data, the state, and the files of the run folder."""

    def __init__(self, data: Path, run: Path, seed: int, compiled: bool) -> None:
        self.data, self.held_out = EmojiData(data), EmojiData(data, held_out=True)
        self.run, self.seed, self.console = run, seed, Console()
        torch.manual_seed(seed)
        self.state = TrainState(CONFIG)
        if (run / "state.safetensors").exists():
            self.state.load(run)
        model: FlagDiT = self.state.model
        self.model: Model = torch.compile(model, dynamic=False) if compiled else model

    def step(self, stage: Stage, done: float) -> float:
        """One update; its randomness depends on the seed and the step alone. Returns the loss."""
        state, number = self.state, self.state.progress.step
        rng = np.random.default_rng([self.seed, number])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        batch = self.data.draw(stage.batch, stage.resolution, CAPTION_DROPOUT, rng)
        for group in state.optimizer.param_groups:
            group["lr"] = stage.learning_rate(done, number) * group["rate"]
        loss = flow_loss(self.model, batch, stage.noise, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), CLIP)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.progress.step += 1
        state.update_average(AVERAGE)
        return loss.item()

    def train(self, index: int, stage: Stage, every: float) -> None:
        """Run one stage to its end, or what is left of it; save and look every `every` seconds."""
        progress = self.state.progress
        progress.stage = index
        progress.seconds += [0.0] * (index + 1 - len(progress.seconds))
        total, start = 60 * stage.minutes, time.monotonic() - progress.seconds[index]
        losses: list[float] = []
        looked = progress.seconds[index]
        while progress.seconds[index] < total:
            losses.append(self.step(stage, progress.seconds[index] / total))
            progress.seconds[index] = time.monotonic() - start
            if len(losses) == 50:
                self.log(stage, loss=sum(losses) / len(losses))
                losses.clear()
            if progress.seconds[index] - looked > every:
                looked = progress.seconds[index]
                self.look(stage)
        self.look(stage)
        self.state.save_average(self.run / f"{stage.resolution}px")

    @torch.no_grad()
    def look(self, stage: Stage) -> None:
        """Save, log the loss of the average on held-out pairs, and paint the fixed prompts."""
        self.state.save(self.run)
        model, rng = self.state.average, np.random.default_rng(0)
        batch = self.held_out.draw(128, stage.resolution, 0.0, rng)
        loss = flow_loss(model, batch, stage.noise, torch.Generator().manual_seed(0))
        self.log(stage, held_out=loss.item())
        text, mask = self.data.bank.gather([*PROMPTS, *[""] * len(PROMPTS)])
        pictures = sample(model, torch.from_numpy(text), torch.from_numpy(mask), stage.resolution)
        name = f"{stage.resolution}px-{self.state.progress.step:06d}.png"
        contact_sheet(pictures, PROMPTS, self.run / "sheets" / name)

    def log(self, stage: Stage, **values: float) -> None:
        """Append one line to log.jsonl."""
        progress = self.state.progress
        rate = self.state.optimizer.param_groups[0]["lr"]
        line = {
            "step": progress.step,
            "resolution": stage.resolution,
            "seconds": round(sum(progress.seconds), 1),
            "rate": round(rate, 7),
            **{name: round(value, 5) for name, value in values.items()},
        }
        self.console.print_json(json.dumps(line), indent=None)
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def main(
    data: Path = typer.Option(Path("data/emoji"), help="What data.py prepared."),
    run: Path = typer.Option(Path("runs/emoji"), help="Where weights, log and sheets go."),
    coarse: float = typer.Option(30, help="Minutes at 32 pixels."),
    fine: float = typer.Option(25, help="Minutes at 64 pixels."),
    every: float = typer.Option(240, help="Seconds between checkpoints with a sample sheet."),
    threads: int = typer.Option(2),
    seed: int = typer.Option(0),
    compiled: bool = typer.Option(True, help="Use torch.compile; needs a C++ compiler."),
) -> None:
    """Train, or go on training, by the clock."""
    torch.set_num_threads(threads)
    run.mkdir(parents=True, exist_ok=True)
    stages = [
        Stage(32, coarse, batch=32, peak=1.2e-3, end=5e-4),
        Stage(64, fine, batch=16, peak=8e-4, end=2e-5, noise=0.5),
    ]
    trainer = Trainer(data, run, seed, compiled)
    for index in range(trainer.state.progress.stage, len(stages)):
        trainer.train(index, stages[index], every)


if __name__ == "__main__":
    typer.run(main)
