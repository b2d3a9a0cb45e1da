"""What a setting gave for one batch of prompts; kept on disk, so that a measurement of hours may stop and go on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from flagdit.engine.bench.exact import check_kept
from flagdit.files import write_file


@dataclass(frozen=True)
class Sample:
    """Sums over the pictures of a batch, then lists with a value for each picture.

    cost: FLOPs over those of 30 dense Euler steps. cpu: CPU seconds. denoise, host: wall seconds in calls of `denoise`,
    and between them. cache_bytes: of what is cached. psnr: dB. extra: more measures, by name.
    """

    cost: float
    cpu: float
    denoise: float
    host: float
    cache_bytes: float
    psnr: list[float]
    ssim: list[float]
    extra: dict[str, list[float]] = field(default_factory=dict)


_SAMPLE = TypeAdapter(Sample)


class Samples:
    """A folder of samples, a file each, named by a digest of all that a sample is of."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder. Raises OutputError if that cannot be."""
        check_kept(folder)
        self._folder = folder

    def read(self, about: object) -> Sample | None:
        """The sample of this, which is plain data; None if there is none, or no whole one."""
        try:
            return _SAMPLE.validate_json(self._path(about).read_bytes())
        except (OSError, ValidationError):  # not there, or cut short: measured anew
            return None

    def write(self, about: object, sample: Sample) -> None:
        """Keep it. Raises OutputError."""
        write_file(self._path(about), json.dumps(asdict(sample)))

    def _path(self, about: object) -> Path:
        return self._folder / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]}.json"
