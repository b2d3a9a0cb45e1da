"""A dense step of diffusers' transformer at true size, in bfloat16: what benchmarks/steps.py has flagdit's time of.

    python benchmarks/torch_step.py lumina2 --threads 1

Weights are random. CPU time of the process, the median of the steps behind the first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import diffusers
import torch

Step = Callable[[], Any]


def lumina2(rows: int, side: int, text: int) -> Step:
    config = {"hidden_size": 2304, "num_layers": 26, "num_attention_heads": 24, "num_kv_heads": 8, "cap_feat_dim": 2304}
    model = filled(diffusers.Lumina2Transformer2DModel, config)
    latents, features = numbers(rows, 16, side, side), numbers(rows, text, 2304)
    mask, times = torch.ones(rows, text, dtype=torch.bool), torch.full((rows,), 0.5)
    return lambda: model(latents, times, features, mask)


def sd35_medium(rows: int, side: int, text: int) -> Step:
    config = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384}
    more = {"joint_attention_dim": 4096, "dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm"}
    model = filled(diffusers.SD3Transformer2DModel, config | more)
    latents, features, pooled = numbers(rows, 16, side, side), numbers(rows, text, 4096), numbers(rows, 2048)
    return lambda: model(latents, features, pooled, torch.full((rows,), 500.0))


MODELS = {"lumina2": lumina2, "sd3.5-medium": sd35_medium}


def filled(kind: Any, config: dict[str, Any]) -> Any:
    """A model with random weights, made without fp32 ones."""
    torch.set_default_dtype(torch.bfloat16)  # tables of angles are float64 all the same
    model = kind(**config).eval()
    for tensor in model.state_dict().values():
        tensor.normal_(0, 0.02)
    return model


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--side", type=int, default=128, help="of the latents")
    parser.add_argument("--text", type=int, default=128, help="tokens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    step, times = MODELS[arguments.model](arguments.rows, arguments.side, arguments.text), []
    with torch.inference_mode():
        for _ in range(1 + arguments.repeats):
            begun = time.process_time()
            step()
            times.append(time.process_time() - begun)
    said = ", ".join(f"{seconds:.1f}" for seconds in times)
    print(f"{arguments.model}: {median(times[1:]):.1f} s a step ({said}); torch {torch.__version__}")


if __name__ == "__main__":
    main()
