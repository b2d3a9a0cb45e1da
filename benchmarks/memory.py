"""What memory runs of a bundle take at several sizes in each precision, beside what flagdit says before.

    python benchmarks/memory.py --sizes 64x64,256x256

Each run is a process of its own, of two dense steps. Linux only: peaks are VmHWM of /proc.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.cpu import available
from flagdit.engine.layout import TokenLayout
from flagdit.engine.memory import memory
from flagdit.engine.plan import make_plan
from flagdit.engine.ras import DENSE

STEPS = 2
RUN = f"""
import sys
from flagdit.engine import Pipeline
from flagdit.engine.ras import DENSE
bundle, precision, width, height, pictures, threads = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
pipeline = Pipeline.load(bundle, precision=precision, threads=threads)
pipeline(prompts=["a rocket"] * pictures, size=(width, height), steps={STEPS}, solver="euler", ras=DENSE)
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(lines["VmHWM"].split()[0]) << 10)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--sizes", default="64x64,128x128,256x256")
    parser.add_argument("--pictures", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    print("| size | tokens | precision | measured, MB | said, MB | |\n|---|---|---|---|---|---|")
    for size in arguments.sizes.split(","):
        width, height = map(int, size.split("x"))
        layout = TokenLayout.of(bundle.model, (width, height))
        plan = make_plan(DENSE, STEPS, layout.tokens, pinned=layout.pinned)
        for precision in available(bundle.manifest):
            numbers = map(str, (width, height, arguments.pictures, arguments.threads))
            command = [sys.executable, "-c", RUN, arguments.bundle, precision, *numbers]
            held = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            needed = memory(bundle.model, [plan], precision, samples=arguments.pictures, threads=arguments.threads)
            said = needed.total
            row = f"{held / 1e6:.0f} | {said / 1e6:.0f} | {said / held:.2f}"
            print(f"| {size} | {layout.tokens} | `{precision}` | {row} |", flush=True)


if __name__ == "__main__":
    main()
