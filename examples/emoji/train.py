"""Train a small Flag-DiT that paints emoji, by the clock: first at 64 pixels, then at 128, or both in turn.

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
from flagdit.export import FlagDiT, FlagDiTConfig, load_checkpoint
from flagdit.export.parts import text_attention
from sampling import contact_sheet, sample
from scenes import MIX
from stages import Resolution, Stage
from state import TrainState
from words import TextEncoder, tokenize

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


def plain_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | None = None) -> Tensor:
    """`attend` of the product in plain matmuls: on a CPU the fused one's backward takes as long as the rest of a step.

    q (A, R, H, d), k and v (R, H, N, d) -> (A, R, H*d).
    """
    scores = (q.permute(1, 2, 0, 3) * scale) @ k.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    out = scores.float().softmax(-1).to(v.dtype) @ v
    return out.permute(2, 0, 1, 3).flatten(2)


def times(count: int, noise_shift: float, generator: torch.Generator) -> Tensor:
    """Log-normal times (count,), one in each of as many equally likely parts: batches differ less by their times."""
    device = generator.device
    parts = (torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)) / count
    return torch.sigmoid(torch.special.ndtri(parts.clamp(1e-6, 1 - 1e-6)) - noise_shift)


class FlowLoss:
    """Mean squared error of the velocity: x_t = t x1 + (1 - t) x0, target x1 - x0."""

    def __init__(self, device: str) -> None:
        self.device, self.encoder = device, TextEncoder(device)

    def __call__(self, model: FlagDiT, drawn: Drawn) -> Tensor:
        """The loss of one batch; noise and times come from its seed."""
        generator = torch.Generator(self.device).manual_seed(drawn.seed)
        x1 = drawn.images.to(self.device)
        x0 = torch.randn(x1.shape, generator=generator, device=self.device)
        t = times(len(x1), drawn.size.noise, generator)
        mix = t[:, None, None, None]
        text, mask = self.encoder.features(drawn.tokens)
        with torch.autocast(self.device, torch.bfloat16):
            velocity = model(mix * x1 + (1 - mix) * x0, t, text, mask)
        return (velocity.float() - (x1 - x0)).square().mean()


def compile_model(model: FlagDiT, device: str) -> None:
    """Only what runs per token: the table of RoPE, which is the same for all, would be computed per element.

    On a GPU one block for all layers and sizes, in seconds; on a CPU all layers together, once for every size.
    """
    if device == "cpu":
        model.run = torch.compile(model.run, dynamic=False)  # type: ignore[method-assign]
        return
    for block in model.blocks:
        block.compile(dynamic=True)


class Trainer:
    """One run: the data, the state, and the files of the run folder."""

    def __init__(self, data: EmojiData, run: Path, seed: int, compiled: bool, start: Path | None) -> None:
        self.data, self.run, self.seed, self.console = data, run, seed, Console()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(seed)
        self.state = TrainState(CONFIG, self.device)
        if (run / "state.safetensors").exists():
            self.state.load(run)
        elif start is not None:
            self.state.begin_with(load_checkpoint(start))
        if self.device == "cpu":
            text_attention.attend = plain_attention
        if compiled:
            compile_model(self.state.model, self.device)
        self.loss = FlowLoss(self.device)

    def step(self, drawn: Drawn, rate: float) -> Tensor:
        """One update at a learning rate; its randomness is the batch's. Returns the loss, where the model is."""
        state = self.state
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        loss = self.loss(state.model, drawn)
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
    start: Path = typer.Option(None, help="Weights to begin with: a run folder or a bundle."),
    every: float = typer.Option(240, help="Seconds between checkpoints with a sample sheet."),
    threads: int = typer.Option(2, help="On a CPU."),
    seed: int = typer.Option(0),
    compiled: bool = typer.Option(True, help="Use torch.compile; needs a C++ compiler."),
) -> None:
    """Train, or go on training, by the clock. Uses a GPU if torch finds one."""
    torch.set_num_threads(threads)
    run.mkdir(parents=True, exist_ok=True)
    at_64, at_128 = Resolution(64, batch, noise=0.5), Resolution(128, max(1, batch // 4), noise=1.0)
    stages = [
        Stage(at_64, small, peak, peak / 400, at_128, large_share),
        Stage(at_128, large, peak / 2, peak / 400, at_64, SMALL_SHARE),
    ]
    trainer = Trainer(EmojiData(data, rest, mix), run, seed, compiled, start)
    for index in range(trainer.state.progress.stage, len(stages)):
        if stages[index].minutes > 0:
            trainer.train(index, stages[index], every)


if __name__ == "__main__":
    typer.run(main)
