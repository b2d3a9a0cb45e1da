"""What a setting gave for one batch of prompts; kept on disk, so that a measurement of hours may stop and go on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from flagdit.engine import session
from flagdit.engine.bench.exact import check_kept
from flagdit.files import write_file


def here(threads: int) -> dict[str, object]:
    """What times depend on besides a bundle and a setting, as far as it is easily known."""
    return {
        "onnxruntime": session.onnxruntime().version,
        "device": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
    }


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

    def of(self, pictures: int) -> bool:
        """Whether it is of so many pictures, that took time."""
        lists = (self.psnr, self.ssim, *self.extra.values())
        return all(len(values) == pictures for values in lists) and self.cpu > 0 and self.denoise > 0


_SAMPLE = TypeAdapter(Sample)


class Samples:
    """A folder of samples, a file each, named by a digest of all that a sample is of."""

    def __init__(self, folder: Path, where: Mapping[str, object]) -> None:
        """Makes the folder. where: plain data that all samples depend on, such as `here`. Raises OutputError if the
        folder cannot be.
        """
        check_kept(folder)
        self._folder, self._where = folder, dict(where)

    def read(self, about: object, pictures: int) -> Sample | None:
        """The sample of this, which is plain data, with so many pictures; None if there is none, or no whole one."""
        try:
            sample = _SAMPLE.validate_json(self._path(about).read_bytes())
        except (OSError, ValidationError):  # not there, or cut short: measured anew
            return None
        return sample if sample.of(pictures) else None

    def write(self, about: object, sample: Sample) -> None:
        """Keep it. Raises OutputError."""
        write_file(self._path(about), json.dumps(asdict(sample)))

    def _path(self, about: object) -> Path:
        content = json.dumps([self._where, about]).encode()
        return self._folder / f"{hashlib.sha256(content).hexdigest()[:32]}.json"
