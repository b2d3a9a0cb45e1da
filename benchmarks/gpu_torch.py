"""Part of gpu_denoise.py: the same module in torch, dense, eager and compiled, plain and as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from flagdit.export.families.flag_dit.config import FlagDiTConfig
from gpu_models import TEXT, flops

ROWS = 2


class Torch:
    """`Denoise` of a Flag-DiT with random bf16 weights at side x side patches; all but RoPE's angles are bf16."""

    def __init__(self, config: FlagDiTConfig, device: str = "cuda") -> None:
        import torch

        from flagdit.export.families.flag_dit.graphs import Denoise
        from flagdit.export.families.flag_dit.model import FlagDiT

        self.torch, self.device, self.config = torch, device, config
        with torch.device(device):
            model = FlagDiT(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.02)
        self.module = Denoise(model.to(torch.bfloat16).eval())

    def arguments(self, side: int) -> tuple[Any, ...]:
        c, n = self.config, side * (side + 1)

        def random(*shape: int) -> Any:
            return self.torch.randn(*shape, device=self.device, dtype=self.torch.bfloat16) * 0.1

        angles = self.torch.rand(n, ROWS, c.head_dim // 2, device=self.device)
        special = random(n, 1) * 0
        special[:side] = 1
        text = [(random(ROWS, c.kv_heads, TEXT, c.head_dim),) * 2 for _ in range(c.n_layers)]
        tail = [(random(0, ROWS, c.kv_heads, c.head_dim),) * 2 for _ in range(c.n_layers)]
        scale = self.torch.full((1,), c.head_dim**-0.5, device=self.device, dtype=self.torch.bfloat16)
        rows = (random(ROWS, c.n_layers, 6, c.dim), random(ROWS, 2, c.dim), random(ROWS, 1, 1, TEXT) * 0)
        return (
            random(n, ROWS, c.in_channels * c.patch_size**2),
            special,
            angles.cos(),
            angles.sin(),
            scale,
            *rows,
            text,
            tail,
        )

    def compile(self) -> None:
        """Compile the block: all layers share what was compiled once."""
        for block in self.module.model.blocks:
            block.compile(dynamic=False)

    def measure(self, side: int, repeats: int) -> dict[str, float]:
        """Median milliseconds of a dense call, plain and captured, and the seconds of the first one."""
        arguments = self.arguments(side)
        with self.torch.no_grad():
            start = perf_counter()
            self.module(*arguments)
            self.synchronise()
            out = {"first_seconds": perf_counter() - start}
            for _ in range(2):
                self.module(*arguments)
            out["plain_ms"] = self.milliseconds(lambda: self.module(*arguments), repeats)
            if self.device == "cuda":
                graph = self.torch.cuda.CUDAGraph()
                with self.torch.cuda.graph(graph):
                    self.module(*arguments)
                graph.replay()
                out["captured_ms"] = self.milliseconds(graph.replay, repeats)
                tokens = side * (side + 1)
                out["captured_tflops"] = flops(self.config, tokens, tokens, ROWS) / out["captured_ms"] / 1e9
        return out

    def synchronise(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def milliseconds(self, work: Callable[[], object], repeats: int) -> float:
        times = []
        for _ in range(repeats):
            self.synchronise()
            if self.device == "cuda":
                begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
                begin.record()
                work()
                end.record()
                self.synchronise()
                times.append(float(begin.elapsed_time(end)))
            else:
                start = perf_counter()
                work()
                times.append((perf_counter() - start) * 1e3)
        return median(times)
