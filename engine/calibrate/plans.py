"""Plans for several budgets, one after another: found, checked on prompts that had no part in it, and kept."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from flagdit.engine.bench.exact import ExactPictures
from flagdit.engine.bench.grids import SHIFTS
from flagdit.engine.bench.settings import STEPS
from flagdit.engine.bundle import Preset as PresetSpec
from flagdit.engine.bundle import regular
from flagdit.engine.bundle.json_file import parse_json
from flagdit.engine.bundle.reader import MAX_JSON_BYTES
from flagdit.engine.calibrate.fit import NOWHERE, mean_psnr
from flagdit.engine.calibrate.painter import BATCH, Painter
from flagdit.engine.calibrate.search import SLACK, cost, search
from flagdit.engine.calibrate.space import Shape, plain, preset_of, start
from flagdit.engine.errors import BundleError, NumberError, OutputError, RequestError
from flagdit.engine.model import model_of
from flagdit.engine.noise import NOISE
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.preflight import Preflight
from flagdit.engine.presets import Preset, falling
from flagdit.engine.ras import DENSE, Solver
from flagdit.engine.request import Request
from flagdit.engine.version import version_of
from flagdit.files import locked, write_file

NAMES = {0.13: "draft", 0.2: "fast", 0.33: "balanced", 0.47: "quality", 0.65: "best"}
"""Of the usual budgets."""
PROMPTS = 48
"""Most prompts that plans are chosen by, and most that they are checked on."""
LEAST, BETTER = 4, 24
"""Prompts that there have to be, and that are enough for most: half of them choose, half of them check."""
SOLVERS: tuple[Solver, ...] = ("ab2", "euler")
"""Of the plain dense steps that a plan is compared with."""
HELD_OUT_SEED = 1000
"""Of the first prompt that plans are checked on."""


def split(prompts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those that choose, and those that check. Raises RequestError if there are too few."""
    if len(prompts) < LEAST:
        raise RequestError(f"there are {len(prompts)} prompts; give at least {LEAST}, and better {BETTER}")
    half = min(len(prompts) // 2, PROMPTS)
    return list(prompts[:half]), list(prompts[half : half + min(len(prompts) - half, PROMPTS)])


def check_requests(ready: Preflight, prompts: Sequence[str], size: tuple[int, int] | None, *, guidance: float) -> None:
    """Raise RequestError for what a calibration would be refused for after hours: a prompt, the size, the memory."""
    split(prompts)
    for first in range(0, len(prompts), BATCH):
        texts = list(prompts[first : first + BATCH])
        seeds = list(range(len(texts)))
        most = Preset(STEPS, "ab2", falling(8, 0.6, 0.3))  # keeps most of all that are tried
        ready.check(Request.of(most, texts, seeds, size=size, guidance=guidance))
        converged = Preset(STEPS, "ab2", DENSE)
        ready.check(Request.of(converged, texts, seeds, size=size, guidance=guidance), precision="float32")


def name_of(budget: float) -> str:
    """The name of the preset for a budget."""
    return NAMES.get(budget, f"cost-{budget:g}")


class Calibration:
    """All that is the same for every budget.

    A folder keeps what is done, for when it is stopped and begun again. Each calibration has one of its own in there,
    so those of several sizes may take turns or run at once; that one is locked until `close`, the end of a `with`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        prompts: Sequence[str],
        size: tuple[int, int] | None,
        *,
        guidance: float,
        folder: Path,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Makes the converged pictures, or finds them in the folder; `progress` is told of each thing that begins.

        Raises RequestError for a size that cannot be or for too few prompts, OutputError for such a folder, or if the
        same calibration runs in another process.
        """
        chosen, held = split(prompts)
        about = [
            version_of("flagdit"),
            NOISE,
            pipeline.spec.weights.sha256,
            pipeline.precision,
            list(prompts),
            size,
            guidance,
        ]
        self._about = json.loads(json.dumps(about))
        self._folder = folder / hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
        self.pipeline, self.size, self._progress = pipeline, size, progress
        if folder.is_symlink():
            raise OutputError(f"{folder}: is a link, which flagdit makes none of; remove it")

        def making() -> None:
            progress("making converged pictures")

        with ExitStack() as lock:
            lock.enter_context(locked(self._folder))
            exactly = ExactPictures(pipeline, size, guidance, folder=self._folder)
            making()
            self.chosen = Painter.of(exactly, pipeline, chosen, seed=0, progress=making)
            self.held = Painter.of(exactly, pipeline, held, seed=HELD_OUT_SEED, progress=making)
            self._lock = lock.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes have its folder."""
        self._lock.close()

    def plan(self, budget: float, effort: int, *, regions: bool = True) -> PresetSpec:
        """The best plan of a budget, or the best dense one (regions=False), from the journal if it is there."""
        sought: dict[str, object] = {"effort": effort, "regions": regions}
        known = self.known(name_of(budget), sought)
        if known is not None:
            return known
        best = None
        rests = model_of(self.pipeline.spec).may_rest(self.size)
        for doing, found in search(budget, self._cost_of, self.chosen, effort=effort, regions=regions, rests=rests):
            self._progress(f"{name_of(budget)}: {doing}")
            best = found
        assert best is not None  # the last thing that a search says
        if best.psnr == NOWHERE:
            raise NumberError(
                f"every plan that was tried in {self.pipeline.precision} ended in values that are not finite; "
                "calibrate with --precision float32, or export the model again with --dtype float32 or bfloat16"
            )
        self._progress(f"{name_of(budget)}: checking on other prompts")
        preset = self._checked(budget, best.preset, best.psnr)
        self.remember(name_of(budget), sought | {"preset": preset.model_dump(mode="json")})
        return preset

    def _cost_of(self, shape: Shape) -> float:
        return cost(self.pipeline.spec, preset_of(shape, start(shape)), self.size)

    def _checked(self, budget: float, how: Preset, psnr: float) -> PresetSpec:
        """The plan with what it does on other prompts; plain dense steps in its place if those are better there."""
        work = STEPS * cost(self.pipeline.spec, how, self.size)
        count = max(math.floor(work + STEPS * SLACK), 1)
        rivals, mine = self._rivals(count), mean_psnr(self.held(how), self.held.exact)
        dense = max(near for _, near in rivals)
        if dense > mine:
            how, psnr, mine = self._best_of_all(rivals)
        elif work > count:  # between two numbers of steps, what lies between what they do
            dense += (work - count) * (max(near for _, near in self._rivals(count + 1)) - dense)
        figures = {"chosen": round(psnr, 2), "held_out": round(mine, 2), "dense": round(dense, 2)}
        return self._spec(budget, how, figures)

    def _rivals(self, count: int) -> list[tuple[Preset, float]]:
        """So many plain dense steps on several grids, of both solvers, and their PSNR on the prompts that check."""
        plans = [plain(Shape(count, count), shift, solver) for shift in SHIFTS for solver in SOLVERS]
        return [(rival, mean_psnr(self.held(rival), self.held.exact)) for rival in plans]

    def _best_of_all(self, rivals: list[tuple[Preset, float]]) -> tuple[Preset, float, float]:
        """Of rivals, the best over all prompts, and its PSNR over those that choose and those that check."""
        near = [(rival, mean_psnr(self.chosen(rival), self.chosen.exact), held) for rival, held in rivals]
        return max(near, key=lambda found: found[1] + found[2])

    def _spec(self, budget: float, how: Preset, figures: dict[str, float]) -> PresetSpec:
        ratios, forecast = how.ras.ratios(how.count), how.ras.forecast_kv
        weights = how.weights if how.solver == "ab2" else ((1.0, 0.0, 0.0),) * how.count  # a preset's solver is ab2
        assert isinstance(how.steps, tuple) and isinstance(forecast, float | int)
        return PresetSpec.model_validate(
            {
                "name": name_of(budget),
                "size": self.size or self.pipeline.spec.latent.size,
                "times": [round(t, 6) for t in how.steps],
                "weights": [[round(value, 4) for value in w] for w in weights],
                "ratios": [ratios] * how.count if isinstance(ratios, float | int) else ratios,
                "forecast_kv": [round(float(forecast), 3)] * how.count if forecast else [],
                "rest_text": how.ras.rest_text,
                "cost": round(cost(self.pipeline.spec, how, self.size), 4),
                "psnr": figures,
            }
        )

    @property
    def _path(self) -> Path:
        return self._folder / "journal.json"

    def known(self, name: str, sought: Mapping[str, object]) -> PresetSpec | None:
        """What the journal has of a budget, unless it was sought in another way or cannot be read."""
        try:
            done = self._journal()[name]
            same = all(done[name] == how for name, how in sought.items())
            return PresetSpec.model_validate(done["preset"]) if same else None
        except (KeyError, TypeError, ValueError):
            return None

    def _journal(self) -> dict[str, dict[str, object]]:
        """What is done of exactly this calibration."""
        try:
            content = parse_json(regular.read(self._path, MAX_JSON_BYTES), self._path)
            return dict(content["done"]) if content["about"] == self._about else {}
        except (BundleError, ValueError, KeyError, TypeError):
            return {}

    def remember(self, name: str, done: dict[str, object]) -> None:
        content = {"about": self._about, "done": self._journal() | {name: done}}
        write_file(self._path, json.dumps(content))

    def forget(self) -> None:
        """Remove what is kept of it, once it is written where it belongs."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # another calibration's is there still
            self._folder.parent.rmdir()


def merged(present: Sequence[PresetSpec], new: Sequence[PresetSpec]) -> tuple[PresetSpec, ...]:
    """All presets, the new in place of those of the same name and size; by size, then by cost."""
    known = {(preset.name, preset.size): preset for preset in (*present, *new)}
    return tuple(sorted(known.values(), key=lambda preset: (preset.size[0] * preset.size[1], preset.size, preset.cost)))
