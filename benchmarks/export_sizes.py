"""What an export of a model of true shapes takes: time, the largest memory, the size of what it writes.

    python benchmarks/export_sizes.py next-dit lumina2 --folder FOLDER

The checkpoints are bfloat16 zeros that take no room on the disk, so no time of reading them is in it; the exports are
float16, and deleted. Each is a process of its own. With --steps SIZE, `denoise` is run in ONNX Runtime on SIZExSIZE
latents (one row; graphs of zeros take the time of others): a step that computes a quarter beside one that computes all.
Linux only: peaks are VmHWM of /proc.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import struct
import subprocess
import sys
import time
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
source, folder = map(Path, sys.argv[1:])
began = time.monotonic()
export_model(open_checkpoint(source), folder, ExportOptions(size=(128, 128)))
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(lines["VmHWM"].split()[0]) << 10, time.monotonic() - began, time.process_time())
"""


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


def sd3(dim: int, layers: int, table: int, dual: int) -> Model:
    shape = MMDiTConfig(dim, layers, dim // 64, 4 * dim, 4096, 2048, 2, 16, table, dual, True)
    return OpenedMMDiT(shape, without_numbers(MMDiT, shape))


MODELS: dict[str, Callable[[], Model]] = {
    "imagenet-600m": lambda: OpenedClasses.of(ClassDiTConfig(1536, 16, 32, 32, 4096, 1000, 2, 4, True)),
    "next-dit": next_dit,
    "lumina2": lumina2,
    "sd3.5-medium": lambda: sd3(1536, 24, 384, 13),
    "flag-dit": lambda: Opened.of(FlagDiTConfig()),
    "z-image": z_image,
    "sd3.5-large": lambda: sd3(2432, 38, 192, 0),
}


def write_zeros(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """A safetensors file of bfloat16 zeros that were never written; how many numbers."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return end // 2


def step_times(folder: Path, side: int, threads: int) -> tuple[float, float]:
    """Seconds of a step on side x side latents that computes all of it, and of one that computes a quarter."""
    import onnxruntime as ort

    spec = json.loads((folder / "model.json").read_text())
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(folder / "denoise.onnx"), options)
    tokens = (side // spec["tokens"]["patch"][1]) ** 2

    def run(active: int) -> float:
        sizes = {"A": active, "M": tokens - active, "R": 1, "T": 128}
        feeds = {}
        for port in spec["graphs"]["denoise"]["inputs"]:
            shape = [sizes[axis] if isinstance(axis, str) else axis for axis in port["shape"]]
            feeds[port["name"]] = np.zeros(shape, port["dtype"])
        began = time.monotonic()
        session.run(None, feeds)
        return time.monotonic() - began

    run(tokens // 4)  # the first one packs weights
    return run(tokens), run(tokens // 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="+", choices=MODELS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="side of the latents of a step, for instance 128")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    print(
        "| model | parameters | peak, GiB | seconds | of one core | written, GB | all | a quarter |\n"
        + "|---" * 8
        + "|"
    )
    for name in arguments.models:
        source, target = arguments.folder / "source", arguments.folder / "model"
        source.mkdir(parents=True)
        model = MODELS[name]()
        (source / "config.json").write_text(json.dumps(model.config()))
        count = write_zeros(source / "model.safetensors", shapes_of(model.module))
        try:
            command = [sys.executable, "-c", RUN, source, target]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            peak, wall, work = (float(number) for number in said[-3:])
            size = sum(path.stat().st_size for path in target.iterdir())
            steps = step_times(target, arguments.steps, arguments.threads) if arguments.steps else ()
            ends = " | ".join(f"{seconds:.1f} s" for seconds in steps) or " | "
            row = f"{count / 1e9:.2f} B | {peak / 2**30:.2f} | {wall:.0f} | {work:.0f} | {size / 1e9:.2f}"
            print(f"| {name} | {row} | {ends} |", flush=True)
        finally:
            shutil.rmtree(source)
            shutil.rmtree(target, ignore_errors=True)


if __name__ == "__main__":
    main()
