"""Layouts of Z-Image: single files, diffusers' folders, our own."""

from collections.abc import Collection
from dataclasses import dataclass

from flagdit.export.parts.joint.layouts import JointLayout, Kind
from flagdit.export.parts.text.encoder import Encoder

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"

KIND = Kind(
    family="z-image",
    class_name="ZImageTransformer2DModel",
    theta=256.0,
    axes=(32, 48, 48),
    time_scale=1000.0,
    adaln_silu=False,
    multiple=32,
    shift=3.0,
    guidance=1.0,  # of Turbo, which has none; diffusers' g is ours less 1
    renormalise="none",
    encoder=Encoder("text", 0, layer=-2, max_tokens=512, template=CHAT),
)


@dataclass(frozen=True)
class ZImageLayout(JointLayout):
    """Recognised by two tensors: names alone are those of Lumina-Image 2.0."""

    def recognises(self, names: Collection[str]) -> bool:
        return "cap_pad_token" in names and self.mark in names


OFFICIAL = ZImageLayout(
    "official",
    KIND,
    ((r"\.attention\.wo\.", ".attention.out."),),
    "context_refiner.0.attention.qkv.weight",
    fused=True,
    ignored=("norm_final.weight",),
)

DIFFUSERS = ZImageLayout(
    "diffusers",
    KIND,
    (
        (r"^x_embedder\.", "all_x_embedder.2-1."),
        (r"^final_layer\.", "all_final_layer.2-1."),
        (r"\.attention\.w([qkv])\.", r".attention.to_\1."),
        (r"\.attention\.wo\.", ".attention.to_out.0."),
        (r"\.attention\.([qk])_norm\.", r".attention.norm_\1."),
    ),
    "context_refiner.0.attention.to_q.weight",
)

OWN = ZImageLayout("own", KIND, (), "context_refiner.0.attention.wq.weight")
