"""Models of classes (ImageNet) as the official code computes them, batch-first and complex; random weights."""

from __future__ import annotations

import math

import reference
import releases
import torch
from torch import Tensor
from torch.nn import functional as F

CLASSES, PATCH, HEADS, KV = 7, 2, 4, 2
D, FFN, VALUES = 48, 64, 16  # 4 channels; the last layer makes 8
State = dict[str, Tensor]


def shapes(chunks: int) -> releases.Shapes:
    """Official names: 6 modulations of a block are Flag-DiT's, 4 Next-DiT's."""
    linear, kv = releases.linear, D // HEADS * KV
    found = {"y_embedder.embedding_table.weight": (CLASSES + 1, D)}
    found |= linear("x_embedder", D, VALUES) | linear("t_embedder.mlp.0", D, 256) | linear("t_embedder.mlp.2", D, D)
    found |= linear("final_layer.linear", 2 * VALUES, D) | linear("final_layer.adaLN_modulation.1", 2 * D, D)
    for block in (f"layers.{i}" for i in range(2)):
        for name, rows in {"wq": D, "wk": kv, "wv": kv, "wo": D}.items():
            found |= linear(f"{block}.attention.{name}", rows, D, False)
        for name, width in {"q_norm": D, "k_norm": kv}.items():
            found |= {f"{block}.attention.{name}.{part}": (width,) for part in ("weight", "bias")}
        for name, sizes in {"w1": (FFN, D), "w2": (D, FFN), "w3": (FFN, D)}.items():
            found |= linear(f"{block}.feed_forward.{name}", *sizes, False)
        found |= {f"{block}.{name}_norm.weight": (D,) for name in ("attention", "ffn")}
        found |= linear(f"{block}.adaLN_modulation.1", chunks * D, D)
    return found


def random_state(chunks: int) -> State:
    """Matrices of a size that keeps activations near 1."""
    state = releases.random_state(shapes(chunks))
    return {name: tensor / math.sqrt(tensor.shape[1]) if tensor.dim() > 1 else tensor for name, tensor in state.items()}


def turns(lines: int, columns: int, *, plane: bool) -> Tensor:
    """The official tables, complex (N, d/2): of a line of tokens, or of a plane, lines and columns by turns."""
    d = D // HEADS
    if not plane:
        frequencies = 1.0 / (1e4 ** (torch.arange(0, d, 2).float() / d))
        angles = torch.outer(torch.arange(lines * columns).float(), frequencies)
        return torch.polar(torch.ones_like(angles), angles)
    frequencies = 1.0 / (1e4 ** (torch.arange(0, d, 4).float() / d))
    angles = torch.outer(torch.arange(64).float(), frequencies)
    table = torch.polar(torch.ones_like(angles), angles)
    by_line = table.view(64, 1, d // 4, 1).repeat(1, 64, 1, 1)
    by_column = table.view(1, 64, d // 4, 1).repeat(64, 1, 1, 1)
    return torch.cat([by_line, by_column], -1).flatten(2)[:lines, :columns].flatten(0, 1)


def attention(s: State, x: Tensor, table: Tensor) -> Tensor:
    def heads(name: str, norm: str | None, count: int) -> Tensor:
        y = x @ s[f"attention.{name}.weight"].T
        if norm is None:
            return y.unflatten(-1, (count, -1))
        y = F.layer_norm(y, y.shape[-1:], s[f"attention.{norm}.weight"], s[f"attention.{norm}.bias"], 1e-5)
        z = torch.view_as_complex(y.unflatten(-1, (count, -1, 2))) * table[None, :, None]
        return torch.view_as_real(z).flatten(3)

    mixed = reference.softmax_attention(heads("wq", "q_norm", HEADS), heads("wk", "k_norm", KV), heads("wv", None, KV))
    return mixed.flatten(2) @ s["attention.wo.weight"].T


def block(s: State, x: Tensor, c: Tensor, table: Tensor) -> Tensor:
    parts = [
        m[:, None]
        for m in F.linear(F.silu(c), s["adaLN_modulation.1.weight"], s["adaLN_modulation.1.bias"]).split(D, 1)
    ]

    def feed(y: Tensor) -> Tensor:
        w1, w2, w3 = (s[f"feed_forward.w{i}.weight"] for i in (1, 2, 3))
        return (F.silu(y @ w1.T) * (y @ w3.T)) @ w2.T

    one = torch.ones(D)
    if len(parts) == 6:
        shift, scale, gate, shift2, scale2, gate2 = parts
        x = x + gate * attention(s, reference.rms(x, s["attention_norm.weight"]) * (1 + scale) + shift, table)
        return x + gate2 * feed(reference.rms(x, s["ffn_norm.weight"]) * (1 + scale2) + shift2)
    scale, gate, scale2, gate2 = parts
    mixed = attention(s, reference.rms(x, one) * (1 + scale), table)
    x = x + gate.tanh() * reference.rms(mixed, s["attention_norm.weight"])
    made = feed(reference.rms(x, one) * (1 + scale2))
    return x + gate2.tanh() * reference.rms(made, s["ffn_norm.weight"])


def velocity(s: State, image: Tensor, t: float, label: int) -> Tensor:
    """Velocity (1, C, H, W) of an image of class `label`; CLASSES is none."""
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(128).float() / 128)
    waves = torch.cat([torch.cos(t * frequencies), torch.sin(t * frequencies)])[None]
    hidden = F.silu(F.linear(waves, s["t_embedder.mlp.0.weight"], s["t_embedder.mlp.0.bias"]))
    c = F.linear(hidden, s["t_embedder.mlp.2.weight"], s["t_embedder.mlp.2.bias"])
    c = c + s["y_embedder.embedding_table.weight"][label]
    _, channels, height, width = image.shape
    h, w = height // PATCH, width // PATCH
    x = image.view(1, channels, h, PATCH, w, PATCH).permute(0, 2, 4, 1, 3, 5).flatten(-3).flatten(1, 2)
    x = F.linear(x, s["x_embedder.weight"], s["x_embedder.bias"])
    plane = s["layers.0.adaLN_modulation.1.weight"].shape[0] == 4 * D
    for layer in range(2):
        prefix = f"layers.{layer}."
        own = {k.removeprefix(prefix): v for k, v in s.items() if k.startswith(prefix)}
        x = block(own, x, c, turns(h, w, plane=plane))
    final = F.linear(F.silu(c), s["final_layer.adaLN_modulation.1.weight"], s["final_layer.adaLN_modulation.1.bias"])
    shift, scale = (m[:, None] for m in final.chunk(2, 1))
    x = F.layer_norm(x, (D,), eps=1e-6) * (1 + scale) + shift
    x = F.linear(x, s["final_layer.linear.weight"], s["final_layer.linear.bias"])
    x = x.reshape(1, h, w, PATCH, PATCH, 2 * channels)
    return torch.einsum("nhwpqc->nchpwq", x).reshape(1, 2 * channels, height, width)[:, :channels]
