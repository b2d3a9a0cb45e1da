"""Tiny models, exported and built once per session: random weights, so they say nothing about quality."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from flagdit.engine.builder import build_bundle
from flagdit.engine.pipeline import Pipeline
from flagdit.export import ExportOptions, FlagDiT, FlagDiTConfig, export_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel

WORDS = "a an the red green blue apple book star on left of background flat modern".split()
TINY = FlagDiTConfig(
    dim=48, n_layers=3, n_heads=4, patch_size=4, in_channels=3, learn_sigma=False, cap_feat_dim=16, multiple_of=32
)


def random_flag_dit(config: FlagDiTConfig, seed: int = 0) -> FlagDiT:
    """A model whose gates and modulations are open, as after training, so that every path carries signal."""
    torch.manual_seed(seed)
    model = FlagDiT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def write_text_encoder(directory: Path, width: int = 16) -> Path:
    """A one-layer BERT of a dozen words, in Hugging Face's layout."""
    torch.manual_seed(1)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    size = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    encoder = BertModel(BertConfig(vocab_size=len(words), hidden_size=width, **size))
    encoder.save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text_encoder(tmp_path_factory.mktemp("text_encoder"))


@pytest.fixture(scope="session")
def flag_dit() -> FlagDiT:
    return random_flag_dit(TINY)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, flag_dit: FlagDiT, text_encoder: Path) -> Path:
    """The tiny model, exported in fp32 so that it can be compared with torch."""
    directory = tmp_path_factory.mktemp("export") / "model"
    options = ExportOptions(name="tiny", size=(32, 32), dtype="float32", text_encoder=text_encoder, max_text_tokens=12)
    export_model(flag_dit, directory, options)
    return directory


@pytest.fixture(scope="session")
def bundle_dir(model_dir: Path) -> Path:
    directory = model_dir.parent / "bundle"
    build_bundle(model_dir, directory)
    return directory


@pytest.fixture(scope="session")
def pipeline(bundle_dir: Path) -> Pipeline:
    return Pipeline.load(bundle_dir, threads=1)
