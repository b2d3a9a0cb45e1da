"""What `flagdit build` does before it builds engines in int8 or fp8: scales, found or kept, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flagdit.engine.bundle import Engine, ModelSpec
from flagdit.engine.bundle.reader import DEMO, MANIFEST, Bundle
from flagdit.engine.commands.common import say
from flagdit.engine.compiler.find_scales import check_source, find_scales, pipeline_of
from flagdit.engine.compiler.low import Difference, difference_of, kept_scales
from flagdit.engine.compiler.scales import SCALES, Low, write_scales

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class LowBuild:
    """model: the directory that a bundle is built from, or demo. prompts: to find scales on; none are its examples."""

    low: Low
    model: str
    prompts: Sequence[str]

    @property
    def kept(self) -> Path | None:
        """The scales beside the model, if there are any that may be taken."""
        path = (DEMO if self.model == "demo" else Path(self.model)) / SCALES
        if self.prompts or not path.is_file():
            return None
        if (path.parent / MANIFEST).is_file():
            bundle = Bundle.open(path.parent)
            if SCALES not in bundle.manifest.files:
                return None
            bundle.read(SCALES)
        return path

    def check(self, spec: ModelSpec) -> None:
        """Raise BuildError if scales can neither be taken nor found."""
        if self.kept is None:
            check_source(spec, self.prompts)

    def prepare(self, model_dir: Path, spec: ModelSpec, directory: Path, progress: Progress) -> Difference | None:
        """Write the scales into the directory; what quantised products do to pictures, which is said, too."""
        kept = self.kept
        pipeline = pipeline_of(model_dir, spec) if spec.texts else None
        if kept is not None:
            scales = kept_scales(kept, model_dir / spec.graphs.denoise.file)
        else:
            assert pipeline is not None  # `check` asks for texts where no scales are kept
            scales = find_scales(pipeline, self.prompts, report=lambda fraction: progress("scales", fraction))
        write_scales(directory / SCALES, scales)
        found = "as they were found before" if kept else f"found in {scales.calls} calls of denoise"
        say(f"{SCALES}: {len(scales.largest)} scales of activations, {found}")
        seen = None
        if pipeline is not None:
            seen = difference_of(pipeline, self.low, scales, report=lambda fraction: progress("pictures", fraction))
        if seen is None:
            say(f"{self.low}: not compared with fp32, there is no text encoder or no prompt to paint")
        else:
            say(f"{self.low}: {seen.psnr:.1f} dB to fp32, mean of {seen.pictures} pictures, products alone, on the CPU")
        return seen


def with_difference(engine: Engine, seen: Difference | None) -> Engine:
    """An engine of `denoise` as the manifest records it."""
    if seen is None or engine.graph != "denoise":
        return engine
    return engine.model_copy(update={"psnr": seen.psnr})
