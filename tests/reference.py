"""Flag-DiT and its sampling written a second time, batch-first, with complex RoPE, straight from the paper's formulas.

Shares nothing with flagdit but the names in the state dict, so that a mistake cannot hide on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def turn(x: Tensor, heads: int) -> Tensor:
    """RoPE on x (B, N, heads*d), adjacent channels as complex numbers."""
    b, n, width = x.shape
    d = width // heads
    frequencies = 1.0 / (10000.0 ** (torch.arange(0, d, 2).float() / d))
    angles = torch.outer(torch.arange(n).float(), frequencies)
    z = torch.view_as_complex(x.reshape(b, n, heads, d // 2, 2))
    z = z * torch.polar(torch.ones_like(angles), angles)[None, :, None]
    return torch.view_as_real(z).reshape(b, n, heads, d)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """q (B, N, H, d), k and v (B, M, G, d), mask (B, M) -> (B, N, H, d)."""
    repeat = q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(repeat, dim=2) for x in (k, v))
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
    return torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v)


def block(s: State, x: Tensor, c: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    """One block with weights s on x (B, N, D), conditioned by c (B, A)."""
    heads = len(s["attention.gate"])
    d = x.shape[-1] // heads
    kv_heads = s["attention.wk.weight"].shape[0] // d
    modulation = F.linear(F.silu(c), s["adaLN_modulation.1.weight"], s["adaLN_modulation.1.bias"])
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (m[:, None] for m in modulation.chunk(6, dim=-1))

    def norm(name: str, y: Tensor) -> Tensor:
        weight, bias = s[f"attention.{name}.weight"], s[f"attention.{name}.bias"]  # (width,), or (groups, width)
        parts = y.unflatten(-1, weight.shape)
        return (F.layer_norm(parts, parts.shape[-1:], eps=1e-5) * weight + bias).reshape(y.shape)

    u = rms(x, s["attention_norm.weight"]) * (1 + scale_a) + shift_a
    y = rms(text, s["attention_y_norm.weight"])
    q = turn(norm("q_norm", u @ s["attention.wq.weight"].T), heads)
    k = turn(norm("k_norm", u @ s["attention.wk.weight"].T), kv_heads)
    v = (u @ s["attention.wv.weight"].T).unflatten(-1, (kv_heads, d))
    ky = norm("ky_norm", y @ s["attention.wk_y.weight"].T).unflatten(-1, (kv_heads, d))
    vy = (y @ s["attention.wv_y.weight"].T).unflatten(-1, (kv_heads, d))
    gate = torch.tanh(s["attention.gate"])[:, None]
    mixed = softmax_attention(q, k, v) + gate * softmax_attention(q, ky, vy, mask)
    x = x + gate_a * (mixed.flatten(2) @ s["attention.wo.weight"].T)
    f = rms(x, s["ffn_norm.weight"]) * (1 + scale_m) + shift_m
    hidden = F.silu(f @ s["feed_forward.w1.weight"].T) * (f @ s["feed_forward.w3.weight"].T)
    return x + gate_m * (hidden @ s["feed_forward.w2.weight"].T)


def conditioning(s: State, t: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(128).float() / 128)
    waves = torch.cat([torch.cos(t[:, None] * frequencies), torch.sin(t[:, None] * frequencies)], -1)
    hidden = F.silu(F.linear(waves, s["t_embedder.mlp.0.weight"], s["t_embedder.mlp.0.bias"]))
    embedded = F.linear(hidden, s["t_embedder.mlp.2.weight"], s["t_embedder.mlp.2.bias"])
    pooled = (text * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    pooled = F.layer_norm(pooled, pooled.shape[-1:], s["cap_embedder.0.weight"], s["cap_embedder.0.bias"])
    return embedded + F.linear(pooled, s["cap_embedder.1.weight"], s["cap_embedder.1.bias"])


def velocity(s: State, image: Tensor, t: Tensor, text: Tensor, mask: Tensor, patch: int) -> Tensor:
    """Velocity (B, C, H, W) of images (B, C, H, W) at times t (B,)."""
    b, channels, height, width = image.shape
    h, w = height // patch, width // patch
    cut = image.reshape(b, channels, h, patch, w, patch).permute(0, 2, 4, 1, 3, 5).reshape(b, h, w, -1)
    x = F.linear(cut, s["x_embedder.weight"], s["x_embedder.bias"])
    x = torch.cat([x, s["eol_token"].expand(b, h, 1, -1)], dim=2).reshape(b, h * (w + 1), -1)
    c = conditioning(s, t, text, mask)
    for layer in range(1 + max(int(k.split(".")[1]) for k in s if k.startswith("layers."))):
        prefix = f"layers.{layer}."
        x = block({k.removeprefix(prefix): v for k, v in s.items() if k.startswith(prefix)}, x, c, text, mask)
    final = F.linear(F.silu(c), s["final_layer.adaLN_modulation.1.weight"], s["final_layer.adaLN_modulation.1.bias"])
    shift, scale = (m[:, None] for m in final.chunk(2, dim=-1))
    x = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
    x = F.linear(x, s["final_layer.linear.weight"], s["final_layer.linear.bias"])
    x = x.reshape(b, h, w + 1, patch, patch, -1)[:, :, :w]
    return x.permute(0, 5, 1, 3, 2, 4).reshape(b, -1, height, width)[:, :channels]


def sample(
    s: State,
    noise: Tensor,
    text: Tensor,
    mask: Tensor,
    patch: int,
    times: Sequence[float],
    guidance: float,
    solver: str = "euler",
) -> Tensor:
    """Sample from noise (B, C, H, W); rows of text are [cond, uncond]. Guides the first three channels only."""

    def v(t: float, x: Tensor) -> Tensor:
        both = velocity(s, torch.cat([x, x]), torch.full((2 * len(x),), t), text, mask, patch)
        cond, uncond = both.chunk(2)
        guided = cond.clone()
        guided[:, :3] = uncond[:, :3] + guidance * (cond - uncond)[:, :3]
        return guided

    x, before = noise, None
    for t, t_next in pairwise(times):
        h, k1 = t_next - t, v(t, x)
        match solver:
            case "euler":
                x = x + h * k1
            case "midpoint":
                x = x + h * v(t + h / 2, x + h / 2 * k1)
            case "heun":
                x = x + h / 2 * (k1 + v(t_next, x + h * k1))
            case "ab2" if before is not None and not (t_next == times[-1] and h > 1.001 * (t - before[0])):
                r = h / (t - before[0])
                x = x + h * ((1 + r / 2) * k1 - r / 2 * before[1])
            case "ab2":  # the first step, and the last one where steps grow (solver.h)
                x = x + h * k1
        before = t, k1
    return x
