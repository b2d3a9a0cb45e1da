"""What an export of a model of true shapes takes: time, the largest memory, the size of what it writes.

    python benchmarks/export_sizes.py next-dit lumina2 --folder FOLDER
    python benchmarks/export_sizes.py lumina2 --folder FOLDER --dtype int8 --keep     # to build and time its steps

The checkpoints are bfloat16 numbers in FOLDER/source; the exports, FOLDER/NAME, are deleted but for --keep. Each is a
process of its own. Seconds of one core are CPU time, also that of torch's threads. Steps of what is kept:
`flagdit build`, then `benchmarks/steps.py --bundle`. Linux only: peaks are VmHWM of /proc.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flagdit.export.families.class_dit.config import ClassDiTConfig
from flagdit.export.families.class_dit.names import OpenedClasses
from flagdit.export.families.family import Model, shapes_of, without_numbers
from flagdit.export.families.flag_dit.config import FlagDiTConfig
from flagdit.export.families.flag_dit.opened import Opened
from flagdit.export.families.lumina2.names import KIND as LUMINA2
from flagdit.export.families.mmdit.config import MMDiTConfig
from flagdit.export.families.mmdit.model import MMDiT
from flagdit.export.families.mmdit.names import OpenedMMDiT
from flagdit.export.families.next_dit.config import NextDiTConfig
from flagdit.export.families.next_dit.model import NextDiT
from flagdit.export.families.next_dit.names import OpenedNext
from flagdit.export.families.z_image.names import KIND as Z_IMAGE
from flagdit.export.parts.joint.config import JointConfig
from flagdit.export.parts.joint.layouts import Kind, OpenedJoint
from flagdit.export.parts.joint.model import Joint

RUN = """
import sys, time
from pathlib import Path
from flagdit.export import ExportOptions, export_model, open_checkpoint
source, folder = map(Path, sys.argv[1:3])
began = time.monotonic()
parts = {}

def started(text):
    parts.setdefault(text.split(",")[0].split(" ")[0], time.process_time())

export_model(open_checkpoint(source), folder, ExportOptions(size=(128, 128), dtype=sys.argv[3]), progress=started)
ends = [*parts.values(), time.process_time()]
print(*(f"{name} {end - begin:.0f}" for name, begin, end in zip(parts, ends, ends[1:])), sep=", ")
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(lines["VmHWM"].split()[0]) << 10, time.monotonic() - began, time.process_time())
"""


_NORMAL = np.random.default_rng(0).normal(0, 0.02, 1 << 20).astype(np.float32)
NUMBERS = (_NORMAL.view(np.uint32) >> 16).astype("<u2").tobytes()
"""Normal ones, in bfloat16."""


def next_dit() -> Model:
    shape = NextDiTConfig(2304, 24, 32, 8, 6144, 2048, 2, 4)
    return OpenedNext(shape, without_numbers(NextDiT, shape))


def joint(kind: Kind, **sizes: Any) -> Model:
    common = {"n_refiners": 2, "patch_size": 2, "in_channels": 16, "axes": kind.axes, "rope_theta": kind.theta}
    ways = {"time_scale": kind.time_scale, "adaln_silu": kind.adaln_silu, "multiple": kind.multiple}
    shape = JointConfig(**common, **ways, **sizes)
    return OpenedJoint(kind, shape, without_numbers(Joint, shape))


def lumina2() -> Model:
    heads = {"dim": 2304, "n_layers": 26, "n_heads": 24, "n_kv_heads": 8}
    return joint(LUMINA2, **heads, ffn_dim=9216, cap_feat_dim=2304, adaln_dim=1024, time_dim=1024)


def z_image() -> Model:
    heads = {"dim": 3840, "n_layers": 30, "n_heads": 30, "n_kv_heads": 30}
    return joint(Z_IMAGE, **heads, ffn_dim=10240, cap_feat_dim=2560, adaln_dim=256, time_dim=1024)


def sd3(dim: int, layers: int, table: int, dual: int, *, qk_norm: bool = True) -> Model:
    shape = MMDiTConfig(dim, layers, dim // 64, 4 * dim, 4096, 2048, 2, 16, table, dual, qk_norm)
    return OpenedMMDiT(shape, without_numbers(MMDiT, shape))


MODELS: dict[str, Callable[[], Model]] = {
    "imagenet-600m": lambda: OpenedClasses.of(ClassDiTConfig(1536, 16, 32, 32, 4096, 1000, 2, 4, True)),
    "next-dit": next_dit,
    "lumina2": lumina2,
    "sd3-medium": lambda: sd3(1536, 24, 192, 0, qk_norm=False),
    "sd3.5-medium": lambda: sd3(1536, 24, 384, 13),
    "flag-dit": lambda: Opened.of(FlagDiTConfig()),
    "z-image": z_image,
    "sd3.5-large": lambda: sd3(2432, 38, 192, 0),
}


def write_numbers(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """A safetensors file of bfloat16 numbers, small ones, the same million again and again; how many."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for begin in range(0, end, len(NUMBERS)):
            file.write(NUMBERS[: end - begin])
    return end // 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    columns = ("model", "parameters", "stored as", "peak, GiB", "seconds", "of one core", "of them", "written, GB")
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name in arguments.models:
        source, target = arguments.folder / "source", arguments.folder / name
        shutil.rmtree(source, ignore_errors=True)  # of a run that was stopped
        source.mkdir(parents=True)
        model = MODELS[name]()
        (source / "config.json").write_text(json.dumps(model.config()))
        count = write_numbers(source / "model.safetensors", shapes_of(model.module))
        try:
            command = [sys.executable, "-c", RUN, source, target, arguments.dtype]
            parts, numbers = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[
                -2:
            ]
            peak, wall, work = map(float, numbers.split())
            size = sum(path.stat().st_size for path in target.iterdir())
            row = f"{peak / 2**30:.2f} | {wall:.0f} | {work:.0f} | {parts} | {size / 1e9:.2f}"
            print(f"| {name} | {count / 1e9:.2f}e9 | {arguments.dtype} | {row} |", flush=True)
        finally:
            shutil.rmtree(source)
            if not arguments.keep:
                shutil.rmtree(target, ignore_errors=True)


if __name__ == "__main__":
    main()
