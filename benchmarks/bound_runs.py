"""Runs that are bounds of what region-adaptive sampling can give; none of them is a way to save work.

Letters: N tokens, B samples, A active.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from flagdit.cpp_ext import Binding, Session
from flagdit.engine.bundle.ports import twin
from flagdit.engine.request import Request
from flagdit.engine.result import Preview
from flagdit.engine.run import Run, Stages
from flagdit.engine.session import Array


class FreshKeys:
    """A session whose every call reads keys and values of cached tokens as a dense call would compute them there.

    Before a call of A of N tokens it makes the dense call, at the same latents, time and condition, into arrays of its
    own, and puts the keys and values of the other N - A into the tail. It costs more than dense sampling. For one run
    that makes one call an evaluation (no RasConfig.guidance_every), and whose first step is dense, as all are.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._dense: Binding | None = None
        self._made: dict[str, Array] = {}  # what the dense call writes, by name

    def __getattr__(self, name: str) -> Any:
        """All else is the session's own."""
        return getattr(self._session, name)

    def bind(self, tensors: Mapping[str, Array]) -> Binding | FreshBinding:
        """The arrays of a dense call are those of all slots, at addresses that the run does not change."""
        binding = self._session.bind(tensors)
        tails = {port.name: tensors[port.name] for port in self._session.ports if port.axes[:1] == ["M"]}
        if not any(len(tail) for tail in tails.values()):
            outputs = [port.name for port in self._session.ports if port.output]
            self._made = {name: np.empty_like(tensors[name]) for name in outputs}
            self._dense = self._session.bind({**tensors, **self._made})
            return binding
        if self._dense is None:
            raise ValueError("the first call of a run must be dense; a bound needs its arrays")
        return FreshBinding(self._dense, [(x, self._tail(name, len(x))) for name, x in tails.items()], binding)

    def _tail(self, name: str, cached: int) -> Array:
        return self._made[twin(name)][-cached:]


@dataclass(frozen=True)
class FreshBinding:
    """A dense call, then copies of its keys and values behind the head, then the call itself."""

    dense: Binding
    copies: list[tuple[Array, Array]]  # to, from; (N - A, rows, G, d)
    call: Binding

    def run(self) -> None:
        """All three."""
        self.dense.run()
        for to, made in self.copies:
            np.copyto(to, made)
        self.call.run()


class BoundRun(Run):
    """A run with fresh keys and values, or with regions that are chosen at random, or with both."""

    def __init__(self, stages: Stages, request: Request, fresh: bool = False, chance: int | None = None) -> None:
        """chance: the seed of scores that are drawn evenly from 0 to 1 after every step, in place of the ranking's.

        The starvation term and the bound on ages hold for those too. Raises RequestError as Run does.
        """
        session = cast(Session, FreshKeys(stages.denoise)) if fresh else stages.denoise
        super().__init__(replace(stages, denoise=session), request)
        self._chance = chance

    def __iter__(self) -> Iterator[Preview]:
        generator = np.random.default_rng(self._chance)
        for preview in super().__iter__():
            if self._chance is not None:
                score = self.state["score"]
                score[...] = generator.random(score.shape)
            yield preview
