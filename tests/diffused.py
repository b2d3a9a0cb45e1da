"""Tiny random models that diffusers makes, saves and runs: the other implementation of every family.

Velocities are data minus noise, t runs from 0 (noise) to 1 (data), features are arrays by the name of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import (
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina
from torch import Tensor

from flagdit.export import ExportOptions, export_model, open_checkpoint

Features = dict[str, npt.NDArray[np.float32]]
WIDTH = 24


@dataclass(frozen=True)
class Diffused:
    """How a family's tiny model is made, what it is called with, and its velocity (1, C, H, W)."""

    make: Callable[[], Any]
    velocity: Callable[[Any, Tensor, float, dict[str, Tensor]], Tensor]
    lengths: tuple[int, int] = (9, 3)  # tokens of a prompt and of the other one

    def features(self, seed: int, tokens: int) -> Features:
        """Text features (T, width) of one prompt."""
        return {"text": np.random.default_rng(seed).standard_normal((tokens, WIDTH)).astype(np.float32)}


class DiffusedSD3(Diffused):
    """Three encoders, whose texts have one length."""

    def features(self, seed: int, tokens: int) -> Features:
        rng = np.random.default_rng(seed)
        shapes = {
            "clip_l": (77, 12),
            "clip_l_pooled": (12,),
            "clip_g": (77, 20),
            "clip_g_pooled": (20,),
            "t5": (256, 64),
        }
        return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def lumina2(model: Any, x: Tensor, t: float, text: dict[str, Tensor]) -> Tensor:
    mask = torch.ones(text["text"].shape[:2], dtype=torch.bool)
    out: Tensor = model(x, torch.tensor([t]), text["text"], mask, return_dict=False)[0]
    return out


def z_image(model: Any, x: Tensor, t: float, text: dict[str, Tensor]) -> Tensor:
    out: Tensor = model([x[0][:, None]], torch.tensor([t]), [text["text"][0]], return_dict=False)[0][0]
    return out[None, :, 0]


def next_dit(model: Any, x: Tensor, t: float, text: dict[str, Tensor]) -> Tensor:
    rope = get_2d_rotary_pos_embed_lumina(model.head_dim, 384, 384)
    mask = torch.ones(text["text"].shape[:2], dtype=torch.bool)
    out: Tensor = model(x, torch.tensor([t]), text["text"], mask, rope, cross_attention_kwargs={}, return_dict=False)[0]
    return out[:, : x.shape[1]]


def sd3(model: Any, x: Tensor, t: float, text: dict[str, Tensor]) -> Tensor:
    clip = torch.cat([text["clip_l"], text["clip_g"]], -1)
    clip = torch.nn.functional.pad(clip, (0, 64 - clip.shape[-1]))
    pooled = torch.cat([text["clip_l_pooled"], text["clip_g_pooled"]], -1)
    time = torch.tensor([1000 * (1 - float(np.float32(t)))], dtype=torch.float32)
    out: Tensor = model(x, torch.cat([clip, text["t5"]], 1), pooled, time, return_dict=False)[0]
    return -out


def _sd3(**options: Any) -> Callable[[], Any]:
    sizes = {"sample_size": 16, "in_channels": 4, "out_channels": 4, "num_layers": 3, "pos_embed_max_size": 24}
    widths = {"attention_head_dim": 16, "num_attention_heads": 3, "joint_attention_dim": 64}
    texts = {"caption_projection_dim": 48, "pooled_projection_dim": 32}
    return lambda: SD3Transformer2DModel(**sizes, **widths, **texts, **options)


COMMON = {"sample_size": 16, "in_channels": 4, "hidden_size": 48, "num_layers": 2, "num_attention_heads": 4}
AXES = {"axes_lens": (300, 64, 64)}

FAMILIES: dict[str, Diffused] = {
    "next-dit": Diffused(
        lambda: LuminaNextDiT2DModel(**COMMON, num_kv_heads=2, multiple_of=16, cross_attention_dim=WIDTH), next_dit
    ),
    "lumina2": Diffused(
        lambda: Lumina2Transformer2DModel(
            **COMMON,
            **AXES,
            num_kv_heads=2,
            multiple_of=16,
            axes_dim_rope=(4, 4, 4),
            cap_feat_dim=WIDTH,
            num_refiner_layers=1,
        ),
        lumina2,
    ),
    "z-image": Diffused(
        lambda: ZImageTransformer2DModel(
            in_channels=4,
            dim=48,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=4,
            n_kv_heads=4,
            cap_feat_dim=WIDTH,
            axes_dims=[4, 4, 4],
            **AXES,
        ),
        z_image,
        (40, 3),
    ),
    "sd3": DiffusedSD3(_sd3(), sd3),
    "sd3.5": DiffusedSD3(_sd3(dual_attention_layers=(0,), qk_norm="rms_norm"), sd3),
}


def random_model(name: str, seed: int = 0, **other: Any) -> Any:
    """A model of diffusers whose gates and modulations are open, as after training; made with `other`, too."""
    torch.manual_seed(seed)
    model = FAMILIES[name].make()
    model = (type(model).from_config({**model.config, **other}) if other else model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for key, parameter in model.named_parameters() if name == "next-dit" else ():
            if ".attn2.to_q." in key or ".attn2.norm_q." in key:  # diffusers holds these twice
                parameter.copy_(model.get_parameter(key.replace(".attn2.", ".attn1.")))
    return model


def saved(name: str, folder: Path, **other: Any) -> tuple[Any, Path]:
    """A random model and the folder that diffusers saved it in."""
    model = random_model(name, **other)
    model.save_pretrained(folder)
    return model, folder


def exported(name: str, folder: Path) -> tuple[Any, Path]:
    """A random model, and a model directory of it in fp32 that was trained, if one likes, at 16x16 latents."""
    model, source = saved(name, folder / "source")
    opened = open_checkpoint(source)
    assert opened.layout == "diffusers" and not opened.inferred
    export_model(opened, folder / "model", ExportOptions(name=name, dtype="float32", size=(16, 16)))
    return model, folder / "model"
