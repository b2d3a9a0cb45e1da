"""The classifier, trained once and kept beside the icons it knows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import load_file, save
from torch import Tensor

from data import EmojiData
from emoji_quality.classifier import Classifier
from flagdit.files import write_file
from scenes import STYLES, Scene, random_background

Progress = Callable[[range], Iterable[int]]


@dataclass(frozen=True)
class Recipe:
    """How the classifier is trained. The sides are those of the canvases it sees one object on.

    Of the steps, every fourth is on the largest canvas: it costs as much as the three others.
    """

    widths: tuple[int, ...] = (32, 64, 96, 128)
    sides: tuple[int, ...] = (32, 32, 32, 32, 64)
    steps: int = 900
    batch: int = 64
    rate: float = 6e-3
    decay: float = 0.02
    smoothing: float = 0.05
    seed: int = 0


RECIPE = Recipe()


def load_classifier(data: EmojiData, folder: Path, recipe: Recipe = RECIPE) -> Classifier:
    """The classifier of the icons in `folder`, from there; the first time it is trained, which takes a minute or two.

    Trained and loaded ones are the same on the same machine: the random numbers are fixed.
    """
    path = folder / f"classifier-{key(data, folder, recipe)}.safetensors"
    model = untrained(data, recipe)
    if path.exists():
        model.load_state_dict(load_file(path))
        return model
    train(model, data, recipe, lambda steps: track(steps, "training the classifier", transient=True))
    write_file(path, save(model.state_dict()))
    return model


def key(data: EmojiData, folder: Path, recipe: Recipe = RECIPE) -> str:
    """What a trained classifier depends on, as 12 hexadecimal digits."""
    facts = json.dumps([asdict(recipe), data.names, STYLES]).encode()
    return hashlib.sha256(facts + (folder / "icons.json").read_bytes()).hexdigest()[:12]


def untrained(data: EmojiData, recipe: Recipe) -> Classifier:
    """A classifier with the first weights of a recipe; the global random numbers stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Classifier(len(data.names), len(STYLES), recipe.widths).eval().requires_grad_(False)


def train(model: Classifier, data: EmojiData, recipe: Recipe, progress: Progress = iter) -> None:
    """Fit to clean renders, on random backgrounds and at random places, and leave it ready to use."""
    model.train().requires_grad_(True)
    rng = np.random.default_rng(recipe.seed)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, recipe.steps, pct_start=0.1)
    for step in progress(range(recipe.steps)):
        images, labels = draw(data, recipe.sides[step % len(recipe.sides)], recipe.batch, rng)
        logits = model(images).flatten(1)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    model.eval().requires_grad_(False)


def draw(data: EmojiData, side: int, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (count, 3, side, side) of one object each, and their labels (count,): name * S + style."""
    names, styles = rng.integers(len(data.names), size=count), rng.integers(len(STYLES), size=count)
    scenes = [
        Scene((data.names[name],), background=random_background(rng), style=STYLES[style])
        for name, style in zip(names, styles, strict=True)
    ]
    images = data.paint_all(scenes, (side, side), rng)
    return torch.from_numpy(images), torch.from_numpy(names * len(STYLES) + styles)
