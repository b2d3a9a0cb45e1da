"""Checkpoints as they are found: official files, single files, diffusers' folders, our own; and what is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import releases
import torch
from diffused import FAMILIES, random_model, saved
from diffusers.loaders import single_file_utils as converters
from safetensors.torch import load_file, save_file
from torch import Tensor

from flagdit.export import CheckpointError, open_checkpoint
from flagdit.export.families.family import shapes_of
from flagdit.export.weights import write_weights

State = dict[str, Tensor]


def stored(path: Path, folder: Path, dtype: str = "float32") -> State:
    """The weights that an export of `path` writes."""
    opened = open_checkpoint(path)
    folder.mkdir(exist_ok=True)
    write_weights(folder / "w.safetensors", shapes_of(opened.model.module), opened.takes, opened.tensors, dtype)
    return load_file(folder / "w.safetensors")


def same(ours: State, theirs: State) -> None:
    assert ours.keys() == theirs.keys() and len(ours) > 30
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def by_diffusers(name: str, state: State, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What diffusers makes of an official state, loaded strictly and saved."""
    split = torch.split

    def of_size(tensor: Tensor, sizes: Any, dim: int = 0) -> Any:  # the converter knows the released sizes alone
        return split(tensor, [48, 24, 24] if sizes == [2304, 768, 768] else sizes, dim)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "split", of_size)
        convert = {
            "lumina2": converters.convert_lumina2_to_diffusers,
            "z-image": converters.convert_z_image_transformer_checkpoint_to_diffusers,
            "sd3.5": converters.convert_sd3_transformer_checkpoint_to_diffusers,
        }[name]
        converted = convert(dict(state))
    model = FAMILIES[name].make()
    model.load_state_dict(converted, strict=True)
    model.save_pretrained(folder)
    return folder


OFFICIAL = {"lumina2": releases.lumina2, "z-image": releases.z_image, "sd3.5": releases.sd3}
AXES = {"lumina2": {"axes_dim_rope": [4, 4, 4]}, "z-image": {"axes_dims": [4, 4, 4]}, "sd3.5": {}}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_are_what_diffusers_makes_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, prefix: str
) -> None:
    """With a prefix they are as single files have them, beside an autoencoder."""
    state = releases.random_state(OFFICIAL[name]())
    if name == "sd3.5":  # a table of positions is one of columns beside one of lines
        state["pos_embed"] = random_model(name).state_dict()["pos_embed.pos_embed"]
    files = {prefix + key: tensor for key, tensor in state.items()}
    (tmp_path / "official").mkdir()
    save_file(
        files | ({"first_stage_model.x": torch.zeros(2)} if prefix else {}), tmp_path / "official/some.safetensors"
    )
    (tmp_path / "official/config.json").write_text(json.dumps({"patch_size": 2, "n_heads": 3, **AXES[name]}))
    found = stored(tmp_path / "official/some.safetensors", tmp_path)
    assert open_checkpoint(tmp_path / "official/some.safetensors").layout == "official"
    same(found, stored(by_diffusers(name, state, tmp_path / "theirs", monkeypatch), tmp_path))


def test_official_next_dit(tmp_path: Path) -> None:
    model, folder = saved("next-dit", tmp_path / "diffusers")
    state = {}
    for key, tensor in model.state_dict().items():
        for ours, theirs in releases.NEXT_DIT.items():
            if key.startswith(theirs):
                state[key.replace(theirs, ours)] = tensor.clone()
    assert len(model.state_dict()) - len(state) == 3 * releases.LAYERS  # queries and their norms, which it holds twice
    (tmp_path / "official").mkdir()
    save_file(state, tmp_path / "official/consolidated_ema.00-of-01.safetensors")
    opened = open_checkpoint(tmp_path / "official")
    assert (opened.layout, opened.inferred, opened.model.family) == ("official", True, "next-dit")
    same(stored(tmp_path / "official", tmp_path), stored(folder, tmp_path))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_was_exported_can_be_exported_again(tmp_path: Path, name: str) -> None:
    _, folder = saved(name, tmp_path / "source")
    first, model = stored(folder, tmp_path), open_checkpoint(folder).model
    save_file(first, tmp_path / "weights.safetensors")
    (tmp_path / "model.json").write_text(json.dumps({"config": model.config()}))
    opened = open_checkpoint(tmp_path)
    assert (opened.model.family, opened.model.config()) == (model.family, model.config())
    (tmp_path / "w.safetensors").unlink()
    same(stored(tmp_path, tmp_path / "again"), first)


def test_shards_of_an_index(tmp_path: Path) -> None:
    model, folder = saved("lumina2", tmp_path / "whole")
    model.save_pretrained(tmp_path / "parts" / "transformer", max_shard_size="100KB")
    assert len(list((tmp_path / "parts/transformer").glob("*.safetensors"))) > 2
    same(stored(tmp_path / "parts", tmp_path), stored(folder, tmp_path))  # a folder that has others beside it
    next((tmp_path / "parts/transformer").glob("*.safetensors")).unlink()
    with pytest.raises(CheckpointError, match=r"of diffusion_pytorch_model\.safetensors\.index\.json missing"):
        open_checkpoint(tmp_path / "parts")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_types_to_store(tmp_path: Path, dtype: str) -> None:
    _, folder = saved("lumina2", tmp_path / "source")
    found, wide = stored(folder, tmp_path, dtype), stored(folder, tmp_path / "wide")
    matrix, vector = "layers.1.attention.wq.weight", "layers.1.attention_norm1.weight"
    assert torch.equal(found[vector], wide[vector]) and found[vector].dtype == torch.float32
    if dtype == "int8":
        assert (
            found[matrix].dtype == torch.int8 and found["context_refiner.0.attention.wq.weight"].dtype == torch.float16
        )
        again = found[matrix].float() * found[matrix + ".scale"]
        torch.testing.assert_close(again, wide[matrix], atol=wide[matrix].abs().max().item() / 250, rtol=0)
    else:
        assert torch.equal(found[matrix], wide[matrix].to(getattr(torch, dtype)))


def damage(state: State, case: str) -> str:
    """Make a state wrong, and say what is to be said of it."""
    if case == "missing":
        del state["layers.1.attn.to_k.weight"]
        return r"missing \['layers\.1\.attn\.to_k\.weight'\], unknown nothing"
    if case == "unknown":
        state["layers.1.attn.to_z.weight"] = torch.zeros(2)
        return r"missing nothing, unknown \['layers\.1\.attn\.to_z\.weight'\]"
    if case == "misshapen":
        state["layers.1.attn.to_k.weight"] = torch.zeros(24, 40)
        return r"layers\.1\.attn\.to_k\.weight is \(24, 40\), config\.json says \(24, 48\)"
    if case == "no embedder":
        del state["x_embedder.weight"]
        return r"it has no x_embedder\.weight of 2 axes"
    state["layers.0.attn.norm_q.weight"] = torch.zeros(16)
    return r"the axes of RoPE \(4, 4, 4\) are not even sizes that make a head of 16"


@pytest.mark.parametrize("case", ["missing", "unknown", "misshapen", "no embedder", "axes"])
def test_tensors_that_are_wrong_are_named(tmp_path: Path, case: str) -> None:
    _, folder = saved("lumina2", tmp_path / "source")
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    message = damage(state, case)
    save_file(state, path)
    with pytest.raises(CheckpointError, match=message) as error:
        open_checkpoint(folder)
    assert "\n" not in str(error.value)


def test_queries_that_have_to_be_the_same(tmp_path: Path) -> None:
    _, folder = saved("next-dit", tmp_path / "source")
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["layers.1.attn2.to_q.weight"] += 1
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"layers\.1\.attn2\.to_q\.weight is not layers\.1\.attn1\.to_q\.weight"):
        stored(folder, tmp_path)


def test_a_table_of_positions_that_is_no_sum_of_two(tmp_path: Path) -> None:
    _, folder = saved("sd3", tmp_path / "source")
    path = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["pos_embed.pos_embed"][0, 30, 2] += 1e-3
    save_file(state, path)
    with pytest.raises(CheckpointError, match="the table of positions is not one of columns beside one of lines"):
        stored(folder, tmp_path)


STRANGERS = {
    "FLUX": ({"double_blocks.0.img_attn.qkv.weight": (2, 2)}, "it looks like FLUX"),
    "a U-Net": ({"down_blocks.0.resnets.0.conv1.weight": (2, 2)}, "it looks like a U-Net of Stable Diffusion"),
    "a LoRA": ({"transformer_blocks.0.attn.to_q.lora_A.weight": (2, 2)}, "it looks like a LoRA: merge it"),
    "nothing known": (
        {"a": (2,), "b": (2,)},
        r"no model that can be exported \(tensors: a, b\); exported are Flag-DiT",
    ),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_others_are_named(tmp_path: Path, case: str) -> None:
    shapes, message = STRANGERS[case]
    save_file(releases.random_state(shapes), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "model.safetensors")


def test_a_configuration_of_another_model(tmp_path: Path) -> None:
    _, folder = saved("lumina2", tmp_path / "source")
    (folder / "config.json").write_text(json.dumps({"_class_name": "PixArtTransformer2DModel"}))
    with pytest.raises(CheckpointError, match=r"not a Lumina-Image 2\.0 configuration .it is of a PixArtTransformer2D"):
        open_checkpoint(folder)


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    _, folder = saved("lumina2", tmp_path / "source")
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"not a readable safetensors file .* lies outside of it"):
        open_checkpoint(folder)
