"""Layouts of Lumina-Image 2.0: the official names, which single files have behind a prefix; diffusers'; our own."""

from flagdit.export.parts.joint.layouts import JointLayout, Kind
from flagdit.export.parts.text.encoder import Encoder

SYSTEM = (
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment "
    "based on textual prompts or user prompts."
)

KIND = Kind(
    family="lumina2",
    class_name="Lumina2Transformer2DModel",
    theta=1e4,
    axes=(32, 32, 32),
    time_scale=1.0,
    adaln_silu=True,
    multiple=1,
    shift=6.0,
    guidance=4.0,
    renormalise="picture",
    encoder=Encoder("text", 0, layer=-2, template=f"{SYSTEM} <Prompt Start> {{}}", negative="{}"),
)

PADS = "cap_pad_token"  # Z-Image's, whose names are much the same

OFFICIAL = JointLayout(
    "official",
    KIND,
    ((r"\.attention\.wo\.", ".attention.out."),),
    "context_refiner.0.attention.qkv.weight",
    fused=True,
    without=PADS,
    ignored=("norm_final.weight",),  # which nothing uses
)

DIFFUSERS = JointLayout(
    "diffusers",
    KIND,
    (
        (r"^t_embedder\.mlp\.0\.", "time_caption_embed.timestep_embedder.linear_1."),
        (r"^t_embedder\.mlp\.2\.", "time_caption_embed.timestep_embedder.linear_2."),
        (r"^cap_embedder\.", "time_caption_embed.caption_embedder."),
        (r"\.attention\.w([qkv])\.", r".attn.to_\1."),
        (r"\.attention\.wo\.", ".attn.to_out.0."),
        (r"\.attention\.([qk])_norm\.", r".attn.norm_\1."),
        (r"\.feed_forward\.w", ".feed_forward.linear_"),
        (r"^(context_refiner\.\d+)\.attention_norm1\.", r"\1.norm1."),
        (r"\.attention_norm1\.", ".norm1.norm."),
        (r"\.attention_norm2\.", ".norm2."),
        (r"^final_layer\.adaLN_modulation\.1\.", "norm_out.linear_1."),
        (r"^final_layer\.linear\.", "norm_out.linear_2."),
        (r"\.adaLN_modulation\.1\.", ".norm1.linear."),
    ),
    "context_refiner.0.attn.to_q.weight",
    without=PADS,
)

OWN = JointLayout("own", KIND, (), "context_refiner.0.attention.wq.weight", without=PADS)
