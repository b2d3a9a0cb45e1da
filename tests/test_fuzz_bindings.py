"""The core between engine calls, with any arrays and numbers: refused in words before anything is written, or done
inside the arrays. `make sanitize` runs it under ASan and UBSan, with more cases.

A case is a call that fits, changed in up to two places; bindings.py says whether it still does.
"""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from bindings import BINDINGS, Arguments, Binding, F, Sizes, below, move
from fuzz import FLOATS, INTEGERS, PARTS, Array, Guarded, check_cases, reshaped, rng_of

WRONG = (-(2**31), -1, 2**31 - 1, 2**30)


def letters(rng: random.Random) -> dict[str, int]:
    n, b = rng.choice((0, 1, 2, 5, 12)), rng.choice((0, 1, 1, 1, 2, 2, 3))
    sizes = {"N": n, "B": b, "A": below(rng, n), "R": b * rng.choice((1, 2)), "S": b * rng.choice((1, 2))}
    return {**sizes, "P": rng.choice((0, 1, 4, 4, 6, 6)), "D": rng.choice((1, 8, 513)), "F": rng.choice((0, 1, 4))}


def shape_of(form: str, s: Sizes, rng: random.Random) -> tuple[int, ...]:
    tail = rng.choice([(), (3,), (2, 70)]) if form.endswith("*") else ()
    return (*(int(x) if x.isdigit() else s[x] for x in form.rstrip("*")), *tail)


def unified(binding: Binding, args: Arguments) -> dict[str, int] | None:
    """What the letters are, if all arrays agree on that, and have their types and whole memory; else nothing."""
    sizes: dict[str, int] = {}
    for name, (kind, form) in binding.arrays.items():
        array, axes = args[name], form.rstrip("*")
        if (array is None and name in binding.optional) or (name == "future" and args["max_age"] == -1):
            continue
        if array is None or (kind and array.dtype != kind) or not array.flags.c_contiguous:
            return None
        if len(array.shape) < len(axes) or (axes == form and len(array.shape) > len(axes)):
            return None
        if not (array.flags.writeable or name in binding.read) or not (
            array.flags.aligned or not kind or not array.size
        ):
            return None
        for letter, size in zip(axes, array.shape, strict=False):
            if size != (int(letter) if letter.isdigit() else sizes.setdefault(letter, size)):
                return None
    return {"F": -1, **sizes}


def changed(rng: random.Random, array: Array, index: bool) -> tuple[Guarded, Array]:
    """Another array, and what guards it."""
    kind = rng.randrange(6) if not index else 6 * (rng.random() < 0.6)
    if kind == 6:
        guard = Guarded(array)
        if array.size:
            guard.array.flat[rng.randrange(array.size)] = rng.choice((*WRONG, len(array), 0, 1))
        return guard, guard.array
    if kind == 0:
        guard = Guarded(np.zeros(reshaped(rng, array.shape), array.dtype))
        return guard, guard.array
    if kind == 1:
        guard = Guarded(array.astype(rng.choice(("float64", "int64", "float16", "uint8", "float32", "int32"))))
        return guard, guard.array
    if kind == 2 and array.ndim:
        guard = Guarded(np.repeat(array, 2, -1))
        return guard, guard.array[..., ::2]
    if kind == 3:
        guard = Guarded(np.zeros(array.nbytes + 8, np.uint8))
        return guard, guard.array[1 : 1 + array.nbytes].view(array.dtype).reshape(array.shape)
    guard = Guarded(array)
    if kind == 4:
        guard.array.flags.writeable = False
    return guard, guard.array


def made(binding: Binding, rng: random.Random) -> tuple[Arguments, list[Guarded]]:
    sizes = letters(rng)
    generator = np.random.default_rng(rng.randrange(2**32))
    args, guards = binding.numbers(rng, sizes), []
    left_out = rng.choice((0, 0, 0.1, 1))
    change = rng.choices([*binding.arrays, *args, *binding.index, *binding.index], k=rng.choice((0, 1, 1, 2)))
    for name, (kind, form) in binding.arrays.items():
        array: Array = generator.uniform(0, 3, shape_of(form, sizes, rng)).astype(kind or F)
        if name == "counts":
            array %= max(sizes["N"] // 4, 1)
        elif name == "swaps":
            array[...] = np.arange(2 * sizes["N"]).reshape(-1, 2) % max(sizes["N"], 1)
        elif name == "token" and array.size:
            array[...] = generator.permuted(np.arange(len(array)))[:, None]
        guard = Guarded(array)
        args[name] = guard.array
        if name in change:
            guard, args[name] = changed(rng, array, name in binding.index)
        guards.append(guard)
        if name in binding.optional and rng.random() < left_out:
            args[name] = None
    for name in set(change) & set(args) - set(binding.arrays) - {"seeds"}:
        args[name] = rng.choice(FLOATS if isinstance(args[name], float) else (*INTEGERS, 2**64, 5))
    return args, guards


def check(binding: Binding, args: Arguments, guards: list[Guarded]) -> bool:
    """Whether it was taken."""
    before = [guard.memory.copy() for guard in guards]
    sizes = unified(binding, args)
    fits = sizes is not None and binding.fits(args, sizes)
    try:
        binding.call(**args)
    except (ValueError, TypeError) as error:
        assert not fits, f"refused, and fits: {error}"
        clear = re.match(rf"({binding.words}): .+: got .+, allowed .+", str(error), re.DOTALL)
        assert clear or "incompatible function arguments" in str(error), str(error)
        for guard, memory in zip(guards, before, strict=True):
            np.testing.assert_array_equal(guard.memory, memory)
        return False
    alike = binding.call is move and sizes is None  # caches are of any type with as many bytes
    assert fits or alike, "taken, and does not fit"
    for guard in guards:
        guard.check()
    return True


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", BINDINGS)
def test_any_call_is_refused_in_words_or_stays_inside(name: str, part: int) -> None:
    rng, binding = rng_of(name, part), BINDINGS[name]

    def said(case: tuple[Arguments, list[Guarded]]) -> object:
        return {key: (x.dtype, x.shape) if isinstance(x, np.ndarray) else x for key, x in case[0].items()}

    check_cases(lambda: made(binding, rng), lambda case: check(binding, *case), said, least=20)
