"""What can be said of a request before minutes of loading: the manifest and the tokenizer know all bounds."""

from __future__ import annotations

from flagdit.engine.admission import admit
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.cpu import Precision, checked_threads
from flagdit.engine.device import choose
from flagdit.engine.layout import model_shift
from flagdit.engine.presets import Preset, presets_of
from flagdit.engine.request import Request
from flagdit.engine.resolve import Options, resolve
from flagdit.engine.text import prompts_of
from flagdit.engine.tokenizer import MAX_BYTES, Tokenizer


class Preflight:
    """A bundle of which the manifest and the tokenizer are read, and no graph or weight.

    chosen: where `denoise` will run, and in what. threads, precision: as they were asked for.
    """

    def __init__(
        self,
        bundle: Bundle,
        threads: int | None = None,
        precision: Precision | None = None,
        *,
        device: str = "auto",
        backend: str = "onnxruntime",
    ) -> None:
        """Raises BackendError for a number of threads or a precision that is not to be had, BundleError for a
        tokenizer that is none.
        """
        self.bundle, self.spec = bundle, bundle.model
        self.threads, self.precision = None if threads is None else checked_threads(threads), precision
        self.chosen = choose(bundle.manifest, device=device, backend=backend, precision=precision)
        tokenizers = [
            Tokenizer.read(text.tokenizer, bundle.read(text.tokenizer, MAX_BYTES).tobytes()) for text in self.spec.texts
        ]
        self.prompts = prompts_of(self.spec, tokenizers)

    @property
    def computes(self) -> Precision:
        """What `denoise` will compute in."""
        return self.chosen.precision

    def resolve(self, options: Options, size: tuple[int, int] | None = None) -> Preset:
        """See Pipeline.resolve."""
        return resolve(options, presets_of(self.spec, size), model_shift(self.spec, size))

    def check(self, request: Request, precision: Precision | None = None) -> None:
        """Raise RequestError for what Pipeline.start would refuse; precision: of another engine than this one."""
        admit(self.spec, self.prompts, request, precision=precision or self.computes)
