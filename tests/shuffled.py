"""A session of another order of tokens: nothing in a graph may know which slot a token is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flagdit.cpp_ext import Session


class Shuffled:
    """A session that is given the tokens in another order than the run has them in: head and tail each in their own."""

    def __init__(self, session: Session) -> None:
        self.session, self.orders = session, np.random.default_rng(9)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def bind(self, tensors: Mapping[str, np.ndarray]) -> ShuffledBinding:
        return ShuffledBinding(self, tensors)


class ShuffledBinding:
    def __init__(self, shuffled: Shuffled, tensors: Mapping[str, np.ndarray]) -> None:
        self.shuffled, self.tensors = shuffled, tensors
        self.sides = {port.name: port.axes[0] for port in shuffled.ports}
        self.orders = {
            side: shuffled.orders.permutation(len(next(x for n, x in tensors.items() if self.sides[n] == side)))
            for side in ("A", "M")
        }
        self.own = {name: x.copy() for name, x in tensors.items()}
        self.binding = shuffled.session.bind(self.own)

    def run(self) -> None:
        for port in self.shuffled.ports:
            order = self.orders.get(port.axes[0], slice(None))
            if not port.output:
                self.own[port.name][...] = self.tensors[port.name][order]
        self.binding.run()
        for port in self.shuffled.ports:
            if port.output:
                self.tensors[port.name][self.orders[port.axes[0]]] = self.own[port.name]
