"""Encoders as modules that give what a family wants, and no more: layers that nobody reads are not there."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from flagdit.export.parts.text.encoder import Encoder


class Features(nn.Module):
    """Features (R, T, Y) of a decoder or encoder with one stack of layers, after the last that it has."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        out: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return out


class Unmasked(Features):
    """The same where all tokens are attended to, those that fill up too: T5 of Stable Diffusion 3."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return super().forward(input_ids, torch.ones_like(attention_mask))


class ClipFeatures(Features):
    """The layer before the last (R, T, Y), and the projected end of the text (R, Z). Causal: a mask changes nothing."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        out = self.model(input_ids=input_ids, output_hidden_states=True)
        return out.hidden_states[-2], out.text_embeds


def build(config: Any, wanted: Encoder) -> nn.Module:
    """The module of a configuration, whose parameters have no numbers; `wanted.layer` says where it ends.

    Raises ValueError if the configuration is of no kind that can end there.
    """
    from transformers import CLIPTextModelWithProjection, T5EncoderModel

    config._attn_implementation = "eager" if config.model_type.startswith("gemma2") else "sdpa"
    config.use_cache = False
    with torch.device("meta"):
        if wanted.pooled:
            return ClipFeatures(CLIPTextModelWithProjection(config)).eval()
        if config.model_type in ("t5", "mt5"):
            config.is_encoder_decoder = False
            return (Unmasked if wanted.fixed else Features)(T5EncoderModel(config)).eval()
        if wanted.layer == -1:
            return Features(_of(config)).eval()
        shorten(config)
        model = _of(config)
    if not hasattr(model, "norm") or not hasattr(model, "layers"):
        raise ValueError(f"a {config.model_type} has no stack of layers with a norm behind it")
    model.norm = nn.Identity()
    return Features(model).eval()


def _of(config: Any) -> nn.Module:
    from transformers import AutoModel

    model: nn.Module = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    return model


def shorten(config: Any) -> None:
    """One layer less."""
    config.num_hidden_layers -= 1
    if config.num_hidden_layers < 1:
        raise ValueError("it has one layer, and the features are those before the last")
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]


def buffers(config: Any, wanted: Encoder, module: nn.Module) -> dict[str, Tensor]:
    """What a module computes when it is made (frequencies of RoPE, numbers of positions): it is in no checkpoint.

    A second module is made for them that has one layer and next to no vocabulary, since theirs depend on neither.
    """
    small = copy.deepcopy(config)
    small.num_hidden_layers = 1 if wanted.layer == -1 or wanted.pooled else 2
    small.vocab_size = 8
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(small, name, None) is not None:
            setattr(small, name, 1)
    if getattr(small, "layer_types", None):
        small.layer_types = small.layer_types[: small.num_hidden_layers]
    with torch.device("cpu"):
        made = dict(_on_cpu(small, wanted).named_buffers())
    missing = {name for name, _ in module.named_buffers()} - made.keys()
    if missing:
        raise ValueError(f"it computes {sorted(missing)[0]}, which is not known how")
    return made


def _on_cpu(config: Any, wanted: Encoder) -> nn.Module:
    from transformers import CLIPTextModelWithProjection, T5EncoderModel

    if wanted.pooled:
        return ClipFeatures(CLIPTextModelWithProjection(config))
    if config.model_type in ("t5", "mt5"):
        return Features(T5EncoderModel(config))
    return Features(_of(config))
