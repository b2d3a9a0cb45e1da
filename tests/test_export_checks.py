"""What `flagdit export` refuses: by options and headers before a weight is read, by weights before a graph is made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import TINY, random_flag_dit, write_text_encoder
from tokenizers import Tokenizer
from transformers import BertConfig, RobertaConfig, RobertaModel, T5Config

from flagdit.export import CheckpointError, ExportError, ExportOptions, export_model, load_checkpoint, open_checkpoint
from flagdit.export.families.flag_dit.opened import Opened
from flagdit.export.parts.text.small import load_encoder, try_longest
from flagdit.export.parts.text.source import positions


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return random_flag_dit(TINY).state_dict()


@pytest.fixture
def checkpoint(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    """A directory with weights and their configuration."""
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    save_file(state, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(asdict(TINY)))
    return directory


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weight of the checkpoint may be read, and no text encoder be loaded."""
    monkeypatch.setattr("flagdit.export.tensors.Filed.read", lambda *_: pytest.fail("the checkpoint was read"))
    monkeypatch.setattr("flagdit.export.parts.text.small.load_encoder", lambda _: pytest.fail("the encoder was loaded"))


OPTIONS = {
    "shift": (("--shift", "0"), "shift is 0.0; allowed are 0.1 to 100"),
    "shift nan": (("--shift", "nan"), "shift is nan; allowed are 0.1 to 100"),
    "guidance": (("--guidance", "101"), "guidance is 101.0; allowed are 0 to 100"),
    "guidance nan": (("--guidance", "nan"), "guidance is nan; allowed are 0 to 100"),
    "no size": (("--size", "0x0"), "size 0x0 is out of bounds; allowed are 1 to 65536"),
    "size": (("--size", "30x32"), "size 30x32 is not made of 4x4 patches; the nearest is 32x32"),
    "tiny size": (("--size", "2x2"), "size 2x2 is not made of 4x4 patches; the nearest is 4x4"),
    "huge size": (("--size", "40000x40000"), "tokens; allowed are 131072"),
    "size text": (("--size", "big"), "size 'big' is not WIDTHxHEIGHT"),
    "dtype": (("--dtype", "int3"), "dtype 'int3' is not one of float32, float16, bfloat16, int8"),
    "text tokens": (("--max-text-tokens", "5000"), "max_text_tokens is 5000; allowed are 2 to 4096"),
    "licence": (("--licence", "MIT"), "is not PART=SPDX-ID; for instance weights=MIT"),
    "no name": (("--name", " "), "the name is empty"),
    "int8 of nothing": (("--text-encoder-weights", "int8"), "text_encoder_weights are of a text encoder, and there is"),
    "encoder weights": (
        ("--text-encoder-weights", "int3"),
        "text_encoder_weights 'int3' is not one of auto, float32, float16, bfloat16, int8, int4",
    ),
    "patch size": (("--patch-size", "2"), "config.json says 4; leave the option out"),
}


@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.usefixtures("unread")
def test_options_are_refused_before_work(flagdit, checkpoint: Path, tmp_path: Path, case: str) -> None:  # type: ignore[no-untyped-def]
    options, message = OPTIONS[case]
    code, _, err = flagdit("export", checkpoint, "-o", "model", *options)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "model").exists()


def pickle(source: Path) -> None:
    (source / "model.safetensors").rename(source / "pytorch_model.bin")


def edit(**values: object) -> Callable[[Path], None]:
    """A change of the encoder's configuration."""

    def apply(source: Path) -> None:
        config = json.loads((source / "config.json").read_text())
        (source / "config.json").write_text(json.dumps(config | values))

    return apply


def index(*names: str) -> Callable[[Path], None]:
    """Weights in parts, of which none is there."""

    def apply(source: Path) -> None:
        (source / "model.safetensors").unlink()
        (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict(enumerate(names))}))

    return apply


def without_special_tokens(source: Path) -> None:
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    (source / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))


def another_vocabulary(source: Path) -> None:
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.add_tokens(["zeppelin"])
    tokenizer.save(str(source / "tokenizer.json"))


ENCODERS: dict[str, tuple[Callable[[Path], object], tuple[object, ...], str]] = {
    "none": (shutil.rmtree, (), "there is no such directory"),
    "pickles": (pickle, (), "holds pytorch_model.bin and no model.safetensors; pickles can run code"),
    "no weights": (lambda s: (s / "model.safetensors").unlink(), (), "holds no model.safetensors"),
    "parts missing": (index("a.safetensors"), (), "a.safetensors of model.safetensors.index.json missing"),
    "no tokenizer": (lambda s: (s / "tokenizer.json").unlink(), (), "has no tokenizer.json"),
    "no configuration": (lambda s: (s / "config.json").unlink(), (), "has no config.json"),
    "not a model": (edit(model_type="cake"), (), "config.json is not of a text encoder"),
    "width": (edit(hidden_size=24), (), "features are 24 wide, and the checkpoint takes 16"),
    "encoder and decoder": (lambda s: T5Config(d_model=16).save_pretrained(s), (), "a t5 is no encoder with one"),
    "positions": (
        lambda _: None,
        ("--max-text-tokens", 513),
        "the text encoder has 512 positions; allowed are 2 to 512",
    ),
    "vocabulary": (another_vocabulary, (), "has a token 19, and the encoder knows 0 to 18"),
    "empty prompt": (without_special_tokens, (), "makes no token of an empty prompt, which guidance needs"),
    "no tokens": (lambda s: (s / "tokenizer.json").write_text("{}"), (), "tokenizer.json: not a tokenizer"),
    "example": (lambda _: None, ("--max-text-tokens", 4), "example 2 has 6 tokens; allowed are 4"),
}


@pytest.mark.parametrize("case", ENCODERS)
@pytest.mark.usefixtures("unread")
def test_text_encoders_are_refused_before_work(
    flagdit,  # type: ignore[no-untyped-def]
    checkpoint: Path,
    text_encoder: Path,
    tmp_path: Path,
    case: str,
) -> None:
    """... of the encoder too: of a checkpoint of 5B that would be minutes away."""
    damage, options, message = ENCODERS[case]
    source = Path(shutil.copytree(text_encoder, tmp_path / "text"))
    damage(source)
    (tmp_path / "examples.txt").write_text("a book\na red apple on\n")
    given = ("--text-encoder", "text", "--size", "32x32", "--examples", "examples.txt", *options)
    code, _, err = flagdit("export", checkpoint, "-o", "model", *given)
    assert code == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_the_longest_prompt_is_tried(text_encoder: Path, tmp_path: Path) -> None:
    """Where no configuration says how many positions there are: RoBERTa counts them from behind its padding."""
    assert positions(BertConfig(max_position_embeddings=40)) == 40
    config = RobertaConfig(
        vocab_size=9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=20
    )
    assert positions(config) == 18
    assert positions(T5Config()) is None
    encoder = RobertaModel(config).eval()
    try_longest(encoder, text_encoder, 18)
    with pytest.raises(ExportError, match="does not take 19 tokens"):
        try_longest(encoder, text_encoder, 19)
    broken = load_encoder(text_encoder)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    with pytest.raises(ExportError, match="features that are no numbers"):
        try_longest(broken, text_encoder, 4)


def test_without_a_configuration_the_patch_size_is_not_guessed(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """A patch of 48 values is 4x4 of three channels, or 2x2 of twelve: only who made it knows."""
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    with pytest.raises(CheckpointError, match=r"give --patch-size 4 \(3 channels\) or 2 \(12 channels\) or 1 \(48"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="and 3 is no patch size of it: a patch has 48 values"):
        load_checkpoint(path, 3)
    opened = open_checkpoint(path, 4)
    assert isinstance(opened.model, Opened) and opened.inferred
    assert opened.model.shape == replace(TINY, n_kv_heads=4, multiple_of=TINY.ffn_dim)


def test_the_command_says_what_it_took_a_checkpoint_for(
    flagdit, tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:  # type: ignore[no-untyped-def]
    save_file(state, tmp_path / "model.safetensors")
    code, _, err = flagdit("export", "model.safetensors", "-o", "model", "--patch-size", 4)
    assert code == 0 and "3 layers of 48, 4 heads, 3 channels; RoPE's theta 10000" in err
    assert "without a text encoder, which --text-encoder gives, prompts must come as features" in err


SHAPES: dict[str, tuple[str, tuple[int, ...], str]] = {
    "another output": ("final_layer.linear.weight", (50, 48), "makes 50 values of a patch of 48"),
    "heads": ("layers.0.attention.gate", (5,), "dim 48 is not 5 heads of an even size"),
    "rank": ("x_embedder.weight", (48,), r"it has no x_embedder\.weight of the right rank"),
    "of others": ("layers.1.attention.wq.weight", (48, 40), r"its other tensors say \(48, 48\)"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_what_its_tensors_contradict_is_no_checkpoint(
    tmp_path: Path, state: dict[str, torch.Tensor], case: str
) -> None:
    name, shape, message = SHAPES[case]
    save_file({**state, name: torch.zeros(shape)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "model.safetensors", 4)


def test_a_tensor_that_is_only_read_of_shapes_may_be_missing(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file({k: v for k, v in state.items() if "wk_y" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"it has no layers\.0\.attention\.wk_y\.weight"):
        load_checkpoint(tmp_path / "model.safetensors", 4)


CONFIGS: dict[str, tuple[object, str]] = {
    "of another model": ({"hidden_size": 16, "model_type": "bert"}, "it does not say dim, n_layers"),
    "without a patch size": ({k: v for k, v in asdict(TINY).items() if k != "patch_size"}, "not say patch_size"),
    "text for a number": (asdict(TINY) | {"dim": "48"}, "dim is '48'; allowed are whole numbers"),
    "no heads": (asdict(TINY) | {"n_heads": 0}, "n_heads is 0"),
    "no theta": (asdict(TINY) | {"rope_theta": 0.0}, "rope_theta is 0.0; allowed are numbers above 0"),
    "a list": ([1, 2], "not a Flag-DiT configuration"),
    "another width": (asdict(TINY) | {"dim": 96}, r"config\.json says \(\d+"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configurations_are_not_filled_up(checkpoint: Path, case: str) -> None:
    """The defaults are those of Lumina-T2I: no other model's."""
    content, message = CONFIGS[case]
    (checkpoint / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("dtype", ["float16", "int8", "bfloat16", "float32"])
def test_weights_that_the_type_has_no_numbers_for_are_refused(tmp_path: Path, dtype: str) -> None:
    """float16 ends at 65504: stored so, an infinity would paint black pictures. int8 keeps other matrices in it."""
    model = random_flag_dit(TINY)
    with torch.no_grad():
        model.get_parameter("x_embedder.weight")[3, 5] = -1e5
    if dtype in ("bfloat16", "float32"):
        export_model(model, tmp_path / "model", ExportOptions(dtype=dtype))
        return
    message = rf"x_embedder\.weight has values up to 100000, and float16, which --dtype {dtype} .* ends at 65504; "
    with pytest.raises(ExportError, match=message + "export with --dtype (float32 or bfloat16|bfloat16 or float32)"):
        export_model(model, tmp_path / "model", ExportOptions(dtype=dtype))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_with_nans_is_damaged(tmp_path: Path) -> None:
    model = random_flag_dit(TINY)
    with torch.no_grad():
        model.get_parameter("layers.1.attention.gate")[0] = torch.nan
    with pytest.raises(CheckpointError, match=r"layers\.1\.attention\.gate holds NaNs or infinities"):
        export_model(model, tmp_path / "model", ExportOptions(dtype="float32"))
    assert list(tmp_path.iterdir()) == []


def test_a_second_encoder_of_the_right_width_is_taken(checkpoint: Path, tmp_path: Path) -> None:
    """The checks refuse nothing that works: another encoder, and a checkpoint that was only opened."""
    source = write_text_encoder(tmp_path / "text", width=16)
    options = ExportOptions(size=(32, 32), dtype="float32", text_encoder=source, max_text_tokens=512)
    export_model(open_checkpoint(checkpoint), tmp_path / "model", options)
    assert json.loads((tmp_path / "model" / "model.json").read_text())["texts"][0]["max_tokens"] == 512
