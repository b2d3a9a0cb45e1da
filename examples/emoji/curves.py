"""Plot the loss of a run from its log: `python examples/emoji/curves.py runs/emoji -o curves.png`."""

import json
from pathlib import Path
from typing import Annotated

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import typer


def read(run: Path, key: str, resolution: int) -> tuple[list[float], list[float]]:
    """Minutes of training and values of one figure, at one resolution."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    rows = [line for line in lines if key in line and line["resolution"] == resolution]
    return [row["seconds"] / 60 for row in rows], [row[key] for row in rows]


def main(
    run: Annotated[Path, typer.Argument(help="The run folder of train.py.")],
    output: Annotated[Path, typer.Option("-o", "--output")] = Path("curves.png"),
) -> None:
    """Loss in training and on held-out scenes, over minutes of training."""
    figure, axes = plt.subplots(figsize=(7, 3.2), constrained_layout=True)
    for resolution, colour in ((64, "tab:orange"), (128, "tab:blue")):
        if not read(run, "loss", resolution)[0]:
            continue
        axes.plot(*read(run, "loss", resolution), color=colour, alpha=0.4, label=f"training, {resolution} px")
        axes.plot(*read(run, "held_out", resolution), "o-", color=colour, label=f"held out, {resolution} px")
    axes.set(xlabel="minutes of training", ylabel="flow-matching loss", yscale="log")
    axes.legend(frameon=False)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    typer.run(main)
