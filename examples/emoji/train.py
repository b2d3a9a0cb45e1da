"""Train a small model that paints emoji, by the clock: first at 64 pixels, then at 128, or both in turn.

`python examples/emoji/train.py` resumes where it stopped; the average of the weights in the run
folder (model.safetensors, config.json) is what `flagdit export` reads.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor

from data import PROMPTS, EmojiData
from draws import Drawn, Draws
from flagdit.export import load_checkpoint
from flow import FlowLoss
from painters import PAINTERS
from painters.flag_dit import FlagPainter
from sampling import contact_sheet, sample
from scenes import MIX
from stages import SHAPE_SHARES, Resolution, Stage
from state import TrainState
from words import TextEncoder, tokenize

CLIP = 1.0
AVERAGE = 0.998
SMALL_SHARE = 0.25
"""Share of the steps at 64 pixels in the minutes at 128."""
HELD_OUT = 128
"""Held-out pictures that the loss is taken over now and then."""
PAUSE = 5.0
"""Seconds that a step counts for at most: a run that is stopped for a while, or compiles, goes on by its own clock."""
SHEET = 1.5
"""Pictures of a sample sheet, over those of a training step: both get fewer as they get larger."""


def trained(path: Path) -> FlagPainter:
    """A Flag-DiT that was trained, from a bundle or a run folder."""
    model = load_checkpoint(path)
    painter = FlagPainter(model.config)
    painter.begin_with(model)
    return painter.requires_grad_(False)


class Trainer:
    """One run: the data, the state, and the files of the run folder."""

    def __init__(
        self,
        data: EmojiData,
        run: Path,
        family: str,
        *,
        seed: int,
        compiled: bool,
        start: Path | None,
        teacher: Path | None,
    ) -> None:
        self.data, self.run, self.seed, self.console = data, run, seed, Console()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(seed)
        self.state = TrainState(PAINTERS[family], self.device)
        if (run / "state.safetensors").exists():
            self.state.load(run)
        elif start is not None:
            self.state.begin_with(load_checkpoint(start))
        model = None if teacher is None else trained(teacher)
        if compiled and model is None:  # what layers make is looked at where a teacher is learned from
            self.state.model.compile_parts(self.device)
        self.loss = FlowLoss(TextEncoder(self.device), self.device, model)

    def step(self, drawn: Drawn, rate: float) -> Tensor:
        """One update at a learning rate; its randomness is the batch's. Returns the loss, where the model is."""
        state = self.state
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        loss = self.loss(state.model, drawn, taught=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), CLIP)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.progress.step += 1
        state.update_average(AVERAGE)
        return loss.detach()

    def train(self, index: int, stage: Stage, every: float) -> None:
        """Run one stage to its end, or what is left of it; save and look every `every` seconds."""
        progress = self.state.progress
        progress.stage = index
        progress.seconds += [0.0] * (index + 1 - len(progress.seconds))
        total, looked = 60 * stage.minutes, progress.seconds[index]
        draws = Draws(self.data, stage, self.loss.encoder.tokenizer, self.seed)
        losses: list[Tensor] = []
        processes = max(1, (os.cpu_count() or 1) - 2) if self.device == "cuda" else 0
        before = time.monotonic()
        for drawn in draws.since(progress.step, processes):
            losses.append(self.step(drawn, stage.learning_rate(progress.seconds[index] / total, progress.step)))
            if len(losses) == 50:
                self.log(stage, loss=torch.stack(losses).mean().item())
                losses.clear()
            now = time.monotonic()
            progress.seconds[index] += min(now - before, PAUSE)
            before = now
            if progress.seconds[index] >= total:
                break
            if progress.seconds[index] - looked > every:
                looked = progress.seconds[index]
                self.look(stage)
        self.look(stage)
        self.state.save_average(self.run / f"{stage.resolution.pixels}px")

    @torch.no_grad()
    def look(self, stage: Stage) -> None:
        """Save, log the loss of the average on held-out pairs, and paint the fixed prompts."""
        self.state.save(self.run)
        model, size, losses = self.state.average, stage.resolution, []
        count = min(size.batch, HELD_OUT)
        for seed in range(HELD_OUT // count):
            batch = self.data.draw(count, size.canvases[0], 0.0, np.random.default_rng(seed), held_out=True)
            tokens = tokenize(self.loss.encoder.tokenizer, batch.texts)
            losses.append(self.loss(model, Drawn(size, torch.from_numpy(batch.images), tokens, seed)).item())
        self.log(stage, held_out=sum(losses) / len(losses))
        prompts = PROMPTS[: int(SHEET * count)]
        text, mask = self.loss.encoder([*prompts, *[""] * len(prompts)])
        pictures = sample(model, text, mask, size.canvases[0])
        name = f"{size.pixels}px-{self.state.progress.step:06d}.png"
        contact_sheet(pictures, prompts, self.run / "sheets" / name)

    def log(self, stage: Stage, **values: float) -> None:
        """Append one line to log.jsonl."""
        progress = self.state.progress
        rate = self.state.optimizer.param_groups[0]["lr"]
        line = {
            "step": progress.step,
            "resolution": stage.resolution.pixels,
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
    small: float = typer.Option(60, help="Minutes at 64 pixels."),
    large: float = typer.Option(0, help="Minutes at 128 pixels."),
    large_share: float = typer.Option(0, min=0, max=1, help="Share of the steps at 128 pixels in the minutes at 64."),
    peak: float = typer.Option(8e-4, help="Learning rate at 64 pixels; half of it at 128."),
    batch: int = typer.Option(16, help="Pictures a step at 64 pixels; a quarter of them at 128."),
    mix: tuple[float, float, float] = typer.Option(MIX, help="Shares of one object, one in a corner, two."),
    rest: float = typer.Option(0, help="How often an icon that is not in common.txt is drawn, against one that is."),
    family: str = typer.Option("flag-dit", help=f"Of the model: {', '.join(PAINTERS)}."),
    start: Path = typer.Option(None, help="Weights of a Flag-DiT to begin with: a run folder or a bundle."),
    teacher: Path = typer.Option(None, help="A Flag-DiT whose velocities are learned, a run folder or a bundle."),
    shapes: tuple[float, float, float] = typer.Option(SHAPE_SHARES, help="Shares of squares, wide and tall pictures."),
    every: float = typer.Option(240, help="Seconds between checkpoints with a sample sheet."),
    threads: int = typer.Option(2, help="On a CPU."),
    seed: int = typer.Option(0),
    compiled: bool = typer.Option(True, help="Use torch.compile, where there is no teacher; needs a C++ compiler."),
) -> None:
    """Train, or go on training, by the clock. Uses a GPU if torch finds one."""
    torch.set_num_threads(threads)
    run.mkdir(parents=True, exist_ok=True)
    at_64, at_128 = Resolution(64, batch, noise=0.5), Resolution(128, max(1, batch // 4), noise=1.0)
    stages = [
        Stage(at_64, small, peak, peak / 400, at_128, large_share, shapes),
        Stage(at_128, large, peak / 2, peak / 400, at_64, SMALL_SHARE, shapes),
    ]
    if family not in PAINTERS:
        raise typer.BadParameter(f"{family!r} is no family of the recipe; allowed are {', '.join(PAINTERS)}")
    pictures = EmojiData(data, rest, mix)
    trainer = Trainer(pictures, run, family, seed=seed, compiled=compiled, start=start, teacher=teacher)
    for index in range(trainer.state.progress.stage, len(stages)):
        if stages[index].minutes > 0:
            trainer.train(index, stages[index], every)


if __name__ == "__main__":
    typer.run(main)
