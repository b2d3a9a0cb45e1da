"""A tiny random model of a family with weights in int8, and the bundle of it with its engines for CPUs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diffused import FAMILIES, saved
from exported import Array, Exported, Feeds
from operator_session import bf16, wide
from test_family_runs import OneEncoder, ThreeEncoders

from flagdit.engine.bundle.builder import build_bundle
from flagdit.engine.compiler import CpuPrecision, build_cpu
from flagdit.engine.compiler.build_cpu import file_of
from flagdit.engine.session import GraphFile, dtype_of, open_session
from flagdit.export import ExportOptions, export_model, open_checkpoint
from flagdit.export.parts.text.given import export_given

HEIGHT, WIDTH = 12, 16  # latents: 48 patches, so Z-Image has 16 pads


@dataclass(frozen=True)
class Built:
    """A family with weights in int8: its model directory as NumPy runs it, and the bundle with both engines."""

    family: str
    exported: Exported
    bundle: Path

    def feeds(self, order: Array | None = None) -> Feeds:
        """Inputs of a dense step of two rows, whose slots are in that order."""
        family, exported = FAMILIES[self.family], self.exported
        texts = [family.features(seed, length) for seed, length in enumerate(family.lengths)]
        latents = np.random.default_rng(3).standard_normal((2, exported.channels, HEIGHT, WIDTH)).astype(np.float32)
        slots = {"tokens": exported.patchify(latents), **exported.placed(HEIGHT // 2, WIDTH // 2, 2)}
        count = len(slots["tokens"])
        order = np.arange(count) if order is None else order
        slots = {name: x[order] if len(x) == count else x for name, x in slots.items()}
        feeds = {**exported.at(exported.condition([0.4], texts), 0), **slots, **exported.tails(2)}
        return {port.name: feeds[port.name] for port in exported.sessions["denoise"].get_inputs()}

    def run(self, precision: CpuPrecision, feeds: Feeds) -> Feeds:
        """An engine's outputs, in fp32."""
        session = open_session(GraphFile.beside(self.bundle / file_of(precision)), 1, precision)
        given = {n: bf16(np.ascontiguousarray(x)) if dtype_of(session, n) == np.uint16 else x for n, x in feeds.items()}
        out = {}
        for port in self.exported.spec["graphs"]["denoise"]["outputs"]:
            sizes = {"A": len(feeds["tokens"]), "R": 2, "T": feeds.get("text_start", np.empty((2, 0))).shape[1]}
            shape = [sizes.get(axis, axis) for axis in port["shape"]]
            out[port["name"]] = np.empty(shape, dtype_of(session, port["name"]))
        session.bind({**{n: np.ascontiguousarray(x) for n, x in given.items()}, **out}).run()
        return {name: wide(x) if x.dtype == np.uint16 else x for name, x in out.items()}


def built_of(name: str, folder: Path) -> Built:
    """Made by diffusers, exported with weights in int8, built."""
    _, source = saved(name, folder / "source")
    export_model(open_checkpoint(source), folder / "model", ExportOptions(name=name, dtype="int8", size=(16, 16)))
    encoders = (ThreeEncoders if name.startswith("sd3") else OneEncoder)(folder / "text")
    options: dict[str, Any] = {"max_tokens": 16, "dtype": "float32", "progress": lambda _: None}
    spec = json.loads((folder / "model" / "model.json").read_text())
    spec["texts"] = export_given(encoders.given, encoders.wanted, folder / "model", **options)
    (folder / "model" / "model.json").write_text(json.dumps(spec))
    build_bundle(folder / "model", folder / "bundle", build_cpu)
    return Built(name, Exported(folder / "model"), folder / "bundle")
