"""The batches of a training, by the number of the step; drawn ahead by other processes where a GPU waits for them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from data import EmojiData
from stages import Resolution, Stage
from words import tokenize

CAPTION_DROPOUT = 0.1
AHEAD = 4
"""Batches that a process draws ahead."""


@dataclass(frozen=True)
class Drawn:
    """Pictures (B, 3, H, W) in [-1, 1], their captions' tokens (B, T), and the seed of their noise and times."""

    size: Resolution
    images: Tensor
    tokens: dict[str, Tensor]
    seed: int


class Draws(Dataset[Drawn]):
    """Every batch of a stage: a batch depends on the seed and its number alone, whoever draws it."""

    def __init__(self, data: EmojiData, stage: Stage, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        self.data, self.stage, self.tokenizer, self.seed = data, stage, tokenizer, seed

    def __getitem__(self, number: int) -> Drawn:
        rng = np.random.default_rng([self.seed, number])
        seed = int(rng.integers(2**62))
        size = self.stage.draw(rng)
        canvas = size.canvases[rng.choice(len(size.canvases), p=self.stage.shapes)]
        batch = self.data.draw(size.batch, canvas, CAPTION_DROPOUT, rng)
        return Drawn(size, torch.from_numpy(batch.images), tokenize(self.tokenizer, batch.texts), seed)

    def since(self, first: int, processes: int) -> Iterator[Drawn]:
        """The batches from a number on, without end. processes: that draw ahead; with 0, drawn here when asked for."""
        numbers = range(first, 2**31)
        ahead = AHEAD if processes else None
        return iter(DataLoader(self, batch_size=None, sampler=numbers, num_workers=processes, prefetch_factor=ahead))
