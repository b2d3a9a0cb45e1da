"""Sampling in plain torch on the exporter's modules, one picture with guidance: dense, and in regions as published.

The region-adaptive run is written from the paper (Liu et al. 2025, arXiv 2502.10389) and a description of its code. It
does in a step what that does: embeds all patches, gathers the active tokens and their angles, scatters their keys and
values into a cache of the whole picture in every layer, scatters the outputs into zeros and fills in the cached
velocity. Whole caches are kept at the last step of the warm-up and at resets. Modulations and the keys and values of
the text are computed anew in every step. The [nextline] tokens, which the published models lack, are always active.

Call it all under `torch.no_grad()`. Letters: A tokens at hand, N all tokens, T text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from flagdit.export import FlagDiT
from flagdit.export.families.flag_dit.block import Block
from flagdit.export.parts.layers import Rope, rope_table, text_mask_bias

KeysValues = tuple[Tensor, Tensor]
"""(N, 2, G, d) each: G heads of size d."""

Velocity = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Of images (2, C, H, W), times (2,), text and its mask: FlagDiT, or what a compiler made of it."""


@dataclass(frozen=True)
class Task:
    """What to paint. The dtype of the text is that of the model."""

    noise: Tensor  # (1, C, H, W)
    text: Tensor  # (2, T, Y): of the prompt, then of none
    text_mask: Tensor  # (2, T)
    times: Sequence[float]  # from 0 (noise) to 1 (data)
    guidance: Tensor  # (C, 1, 1): the scale of every channel

    def rows(self, latent: Tensor) -> Tensor:
        """The model's images (2, C, H, W) of a latent (1, C, H, W)."""
        return latent.to(self.text.dtype).repeat(2, 1, 1, 1)

    def guide(self, both: Tensor) -> Tensor:
        """The guided velocity (1, C, H, W), in fp32, of those with the prompt and without (2, C, H, W)."""
        conditional, unconditional = both.float().chunk(2)
        return unconditional + self.guidance * (conditional - unconditional)


@dataclass(frozen=True)
class Published:
    """The published options with a static ratio; what it caches is all from the high end of the ranking."""

    ratio: float = 0.25
    warmup: int = 4
    resets: tuple[int, ...] = (12, 22)
    starvation: float = 0.1

    def __post_init__(self) -> None:
        if self.warmup < 1:
            raise ValueError(
                f"warmup is {self.warmup}; a dense step must fill the caches first, so allowed are 1 and up"
            )

    def sparse(self, step: int) -> bool:
        """Whether the step leaves patches out."""
        return step >= self.warmup and step not in self.resets

    def keeps(self, step: int) -> bool:
        """Whether the step, a dense one, writes whole caches."""
        return step == self.warmup - 1 or step in self.resets


def sample_dense(model: Velocity, task: Task) -> Iterator[Tensor]:
    """Euler steps over the whole picture: yields the latent (1, C, H, W) after each."""
    latent = task.noise
    for t, t_next in pairwise(task.times):
        both = model(task.rows(latent), torch.full((2,), t), task.text, task.text_mask)
        latent = latent + (t_next - t) * task.guide(both)
        yield latent


def sample_regions(model: FlagDiT, task: Task, options: Published) -> Iterator[tuple[Tensor, Tensor]]:
    """Euler steps over the active patches: yields their numbers (A,), row by row of the picture, and the latent."""
    run = _Run(model, task, options)
    everything = torch.arange(run.patches)
    for step, (t, t_next) in enumerate(pairwise(task.times)):
        if options.sparse(step):
            run.select()
            run.velocity = torch.where(run.pixels, task.guide(run.sparse(t)), run.velocity)
        else:
            run.velocity = task.guide(run.dense(t, options.keeps(step)))
        run.latent = run.latent + (t_next - t) * run.velocity
        yield (run.active if options.sparse(step) else everything), run.latent


class _Run:
    """What a region-adaptive run remembers."""

    def __init__(self, model: FlagDiT, task: Task, options: Published) -> None:
        self.model, self.task, self.options, config = model, task, options, model.config
        height, width = task.noise.shape[-2:]
        self.patch, self.columns = config.patch_size, width // config.patch_size
        rows = height // self.patch
        self.patches = rows * self.columns
        self.row_ends = torch.arange(1, rows + 1) * (self.columns + 1) - 1
        self.rope = rope_table(torch.arange(self.patches + rows), config.head_dim, config.rope_theta)
        self.scale = config.head_dim**-0.5
        self.text_bias = text_mask_bias(task.text_mask, task.text.dtype)
        self.latent, self.velocity = task.noise, torch.zeros_like(task.noise)
        self.drops = torch.full((self.patches,), -float(len(task.times)))
        self.active = self.index = torch.empty(0, dtype=torch.long)  # of patches, and of tokens in the sequence
        self.pixels = torch.empty(0, dtype=torch.bool)  # (H, W): those of active patches
        self.caches: list[KeysValues] = []

    def select(self) -> None:
        """Rank the patches by the velocity's deviation over channels, and drop those that have most of it."""
        deviation = self.velocity[0].std(dim=0)  # (H, W)
        metric = F.avg_pool2d(deviation[None], self.patch).flatten()
        order = torch.argsort(metric * torch.exp(self.options.starvation * self.drops))
        kept = self.patches - int((1 - self.options.ratio) * len(self.row_ends) * self.columns)
        self.active, dropped = order[:kept], order[kept:]
        self.drops[dropped] += 1
        self.index = torch.cat([self.row_ends, self.active + self.active // self.columns])
        active = torch.zeros(self.patches, dtype=torch.bool).index_fill_(0, self.active, True)
        grid = active.view(-1, self.columns)
        self.pixels = grid.repeat_interleave(self.patch, 0).repeat_interleave(self.patch, 1)

    def dense(self, t: float, keep: bool) -> Tensor:
        """Velocity (2, C, H, W) of the whole picture; keep: also the keys and values of every layer."""
        x, c = self._embed(t)  # (N, 2, D)
        if keep:
            self.caches = []
        for block in self.model.blocks:
            modulation, text_kv = self._conditions(block, c)
            x, kv = block(x, modulation, self.rope, text_kv, self.scale, self.text_bias)
            if keep:
                self.caches.append(kv)
        return self.model.unpatchify(self._final(x, c), *self.latent.shape[-2:])

    def sparse(self, t: float) -> Tensor:
        """Velocity (2, C, H, W) of the active patches, and zero elsewhere."""
        x, c = self._embed(t)
        cos, sin = (angles.index_select(0, self.index) for angles in self.rope)
        x = x.index_select(0, self.index)  # (A, 2, D)
        for block, cache in zip(self.model.blocks, self.caches, strict=True):
            x = self._sparse_block(block, x, c, (cos, sin), cache)
        x = self._final(x, c)
        whole = x.new_zeros(len(self.rope[0]), *x.shape[1:]).index_copy_(0, self.index, x)  # (N, 2, P)
        return self.model.unpatchify(whole, *self.latent.shape[-2:])

    def _sparse_block(self, block: Block, x: Tensor, c: Tensor, rope: Rope, cache: KeysValues) -> Tensor:
        """Block.forward, attending from x (A, 2, D) to the cache, which first gets the keys and values of x."""
        modulation, text_kv = self._conditions(block, c)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = modulation.unbind(1)
        q, *kv = block.attention.qkv(block.attention_norm(x) * (1 + scale_msa) + shift_msa, rope)
        for kept, fresh in zip(cache, kv, strict=True):
            kept.index_copy_(0, self.index, fresh)
        x = x + gate_msa * block.attention.mix(q, cache, text_kv, scale=self.scale, bias=None, text_bias=self.text_bias)
        out: Tensor = x + gate_mlp * block.feed_forward(block.ffn_norm(x) * (1 + scale_mlp) + shift_mlp)
        return out

    def _embed(self, t: float) -> tuple[Tensor, Tensor]:
        """All tokens (N, 2, D) of the picture, and what modulates them."""
        c = self.model.condition(torch.full((2,), t), self.task.text, self.task.text_mask)
        return self.model.patchify(self.task.rows(self.latent)), c

    def _conditions(self, block: Block, c: Tensor) -> tuple[Tensor, KeysValues]:
        """What a block needs besides tokens: modulation (2, 6, D), keys and values of the text."""
        return block.adaLN_modulation(c).unflatten(-1, (6, -1)), block.text_kv(self.task.text)

    def _final(self, x: Tensor, c: Tensor) -> Tensor:
        """Patch values (A, 2, P) of tokens."""
        final = self.model.final_layer
        out: Tensor = final.linear(final.normalise(x, final.adaLN_modulation(c).unflatten(-1, (2, -1))))
        return out
