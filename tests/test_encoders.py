"""Text encoders and autoencoders as graphs, against the libraries that they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
import transformers as hf
from diffusers import AutoencoderKL, AutoencoderTiny
from encoders import WIDTH, write_encoder, write_tokenizer
from safetensors.torch import load_file, save_file

from flagdit.export import ExportError
from flagdit.export.parts.autoencoder import export_preview, export_vae, read_vae
from flagdit.export.parts.text.encoder import Encoder
from flagdit.export.parts.text.given import Folder, check_given
from flagdit.export.parts.text.large import export_large
from flagdit.export.parts.text.source import read_config
from flagdit.export.parts.text.tokenizer import padding_of, save_tokenizer

WANTED = {
    "llama": Encoder("text", WIDTH, end=True),
    "gemma": Encoder("text", WIDTH, layer=-2),
    "gemma2": Encoder("text", WIDTH, layer=-2),
    "qwen3": Encoder("text", WIDTH, layer=-2),
    "clip": Encoder("clip_l", 12, pooled=12, layer=-2, fixed=True),
    "t5": Encoder("t5", 64, fixed=True),
}


def expected(model: Any, wanted: Encoder, ids: torch.Tensor) -> list[np.ndarray]:
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
    features = out.hidden_states[wanted.layer]  # the last has the norm behind it
    return [features.numpy(), *([out.text_embeds.numpy()] if wanted.pooled else [])]


@pytest.mark.parametrize("kind", WANTED)
def test_features_are_the_librarys(tmp_path: Path, kind: str) -> None:
    """For texts of several lengths and rows; without the layers behind those that are read."""
    model, wanted = write_encoder(kind, tmp_path / "source"), WANTED[kind]
    entry = export_large(
        tmp_path / "source", read_config(tmp_path / "source"), tmp_path, wanted, "float32", stem="text"
    )
    session = ort.InferenceSession(tmp_path / entry["file"])
    assert [output.name for output in session.get_outputs()] == list(wanted.outputs)
    for rows, length in ((1, 77), (2, 77)) if kind == "clip" else ((1, 1), (1, 6), (2, 9)):
        ids = np.random.default_rng(length).integers(3, 12, (rows, length))
        ids[:, -1] = 2  # where CLIP's text ends
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        found = session.run(None, {port.name: feeds[port.name] for port in session.get_inputs()})
        for ours, theirs in zip(found, expected(model, wanted, torch.from_numpy(ids)), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)
    names = load_file(tmp_path / entry["weights"]).keys()
    last = "layers.2." if kind not in ("clip", "t5") else "no such layer"
    assert any(last in name for name in names) == (wanted.layer == -1 and kind == "llama")


def test_a_tokenizer_is_the_librarys(tmp_path: Path) -> None:
    """Its own file is not all of it: what is said beside it counts too."""
    from tokenizers import Tokenizer

    library = write_tokenizer(tmp_path / "source", begin=True, end=True)
    assert padding_of(save_tokenizer(tmp_path / "source", tmp_path / "tokenizer.json"), tmp_path) == 0
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("a red apple", "", "an unknown zeppelin"):
        assert saved.encode(text).ids == library(text).input_ids
    assert saved.encode("a red").ids[-1] == 2
    (tmp_path / "none").mkdir()
    with pytest.raises(ExportError, match=r"has no tokenizer\.json"):
        save_tokenizer(tmp_path / "none", tmp_path / "tokenizer.json")


@pytest.mark.slow
def test_llamas_end_token_is_added(tmp_path: Path) -> None:
    """Its tokenizer adds none by itself, and Lumina-T2I was trained with one."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "\u2581": 3, "a": 4, "\u2581a": 5}
    tokenizer = hf.LlamaTokenizerFast(vocab=vocabulary, merges=[("\u2581", "a")])
    tokenizer.save_pretrained(tmp_path / "source")
    ends = {}
    for end in (False, True):
        save_tokenizer(tmp_path / "source", tmp_path / "tokenizer.json", end=end)
        ends[end] = hf.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))("a").input_ids
    assert ends[True] == [*ends[False], 2]


def refused(given: dict[str, Folder], wanted: Encoder, message: str) -> None:
    with pytest.raises(ExportError, match=message) as error:
        check_given(given, [wanted], None, examples=())
    assert "\n" not in str(error.value)


def test_encoders_that_are_not_the_models_are_refused(tmp_path: Path) -> None:
    write_encoder("gemma2", tmp_path)
    folder, wanted = {"text": Folder(tmp_path, tmp_path)}, WANTED["gemma2"]
    check_given(folder, [wanted], None, examples=())
    refused(folder, Encoder("text", 32, layer=-2), "features are 24 wide, and the checkpoint takes 32")
    refused({"t5": folder["text"]}, wanted, "the model takes no features of 't5'; allowed are text")
    refused({"text": Folder(tmp_path / "no", tmp_path)}, wanted, "there is no such directory")
    write_encoder("clip", tmp_path / "clip")
    clip = {"clip_l": Folder(tmp_path / "clip", tmp_path)}
    refused(
        clip, Encoder("clip_l", 12, pooled=20, layer=-2), "pooled features are 12 wide, and the checkpoint takes 20"
    )


def test_tensors_that_an_encoder_lacks_are_named(tmp_path: Path) -> None:
    write_encoder("qwen3", tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in state.items() if "layers.1.mlp.up_proj" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(
        ExportError, match=r"has no tensor layers\.1\.mlp\.up_proj\.weight, which its config\.json says"
    ):
        export_large(tmp_path, read_config(tmp_path), tmp_path, WANTED["qwen3"], "float32", stem="text")


BLOCKS = {"norm_num_groups": 4, "layers_per_block": 1}
VAES: dict[int, dict[str, Any]] = {
    4: {"scaling_factor": 0.13025},
    16: {"scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False},
}


def random_vae(channels: int, folder: Path, *, downscale: int = 4, **options: Any) -> Any:
    """An autoencoder of diffusers, saved in that folder."""
    torch.manual_seed(0)
    levels = downscale.bit_length()
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    kinds["block_out_channels"] = (8, *(16,) * (levels - 1))  # type: ignore[assignment]
    model = AutoencoderKL(latent_channels=channels, **BLOCKS, **kinds, **{**VAES[channels], **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("channels", VAES)
def test_pictures_and_latents_are_diffusers(tmp_path: Path, channels: int) -> None:
    """Scale and shift are in the graphs."""
    model = random_vae(channels, tmp_path / "source")
    entries, downscale = export_vae(tmp_path / "source", tmp_path, channels, "float32")
    scale, shift = model.config.scaling_factor, model.config.shift_factor or 0.0
    assert downscale == 4 and entries["decode"]["weights"] == "vae.safetensors"
    sessions = {name: ort.InferenceSession(tmp_path / entry["file"]) for name, entry in entries.items()}
    for rows, height, width in ((1, 6, 5), (2, 4, 8)):
        latents, picture = (
            torch.randn(rows, channels, height, width),
            torch.rand(rows, 3, 4 * height, 4 * width) * 2 - 1,
        )
        with torch.no_grad():
            decoded = model.decode(latents / scale + shift).sample.numpy()
            encoded = ((model.encode(picture).latent_dist.mean - shift) * scale).numpy()
        found = sessions["decode"].run(None, {"latents": latents.numpy()})[0]
        np.testing.assert_allclose(found, decoded, atol=1e-5 * np.abs(decoded).max(), rtol=0)
        found = sessions["encode"].run(None, {"picture": picture.numpy()})[0]
        np.testing.assert_allclose(found, encoded, atol=1e-5 * np.abs(encoded).max(), rtol=0)


def test_previews_are_diffusers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    widths = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    blocks = {"num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 2, 1)}
    model = AutoencoderTiny(latent_channels=4, **widths, **blocks).eval()
    model.save_pretrained(tmp_path / "source")
    entry = export_preview(tmp_path / "source", tmp_path, 4)["preview"]
    latents = torch.randn(2, 4, 5, 6)
    with torch.no_grad():
        expected = model.decode(latents).sample.numpy()
    found = ort.InferenceSession(tmp_path / entry["file"]).run(None, {"latents": latents.numpy()})[0]
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)  # stored in float16
    with pytest.raises(ExportError, match=r"is one for previews \(--preview\)"):
        export_vae(tmp_path / "source", tmp_path, 4, "float32")
    with pytest.raises(ExportError, match="its latents have 4 channels, and the model's 16; give its own"):
        read_vae(tmp_path / "source", 16)
    (tmp_path / "source" / "config.json").write_text(json.dumps({"_class_name": "VQModel", "latent_channels": 4}))
    with pytest.raises(
        ExportError, match="a VQModel cannot be exported; allowed are AutoencoderKL and AutoencoderTiny"
    ):
        read_vae(tmp_path / "source", 4)
