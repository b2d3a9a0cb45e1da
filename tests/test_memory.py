"""How much memory a run takes: what is said of it, against what a process has held."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flagdit.cpp_ext import PROGRAM_BYTES, SCORE_BLOCK, WHOLE_SCORES
from flagdit.engine.admission import admit
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.coarse import coarse_layout
from flagdit.engine.errors import RequestError
from flagdit.engine.layout import TokenLayout
from flagdit.engine.memory import Memory, check_memory, memory
from flagdit.engine.pipeline import Pipeline
from flagdit.engine.plan import make_plan
from flagdit.engine.presets import Preset
from flagdit.engine.ras import DENSE, RasConfig
from flagdit.engine.request import Request

PAINTS = """
import sys
from flagdit.engine import Pipeline, RasConfig
bundle, side, pictures = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
pipeline = Pipeline.load(bundle, threads=1)
status = lambda: dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status()["VmRSS"].split()[0]) << 10)
pipeline(prompts=["a book"] * pictures, size=(side, side), steps=2, solver="euler", ras=RasConfig(ratio=1.0))
print(int(status()["VmHWM"].split()[0]) << 10)
"""
STATUS = Path("/proc/self/status")


def estimate(bundle: Path, side: int, pictures: int) -> Memory:
    spec = Bundle.open(bundle).model
    layout = TokenLayout.of(spec, (side, side))
    plan = make_plan(DENSE, 2, layout.tokens, pinned=layout.pinned)
    return memory(spec, [plan], "float32", samples=pictures, threads=1)


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not say what a process has held")
@pytest.mark.parametrize(("side", "pictures"), [(256, 1), (64, 48)], ids=["one of 4160 tokens", "48 of 272 tokens"])
def test_the_estimate_is_near_what_a_process_holds(bundle_dir: Path, side: int, pictures: int) -> None:
    """The scores of the first one would take 550 MB at once, and all else takes less than half of that.

    What the program takes is said of a text encoder as large as the demo's, which the tiny one is not.
    """
    command = [sys.executable, "-c", PAINTS, bundle_dir, str(side), str(pictures)]
    loaded, held = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    said = estimate(bundle_dir, side, pictures)
    assert 0.75 * held < said.total < 1.4 * held, (said.total, held)
    assert 0.75 * (held - loaded) < said.total - said.program - said.weights < 1.25 * (held - loaded)
    assert said.total > PROGRAM_BYTES + 40e6  # it is no constant


def test_the_parts_grow_as_they_should(pipeline: Pipeline) -> None:
    layout = TokenLayout.of(pipeline.spec, (256, 256))

    def parts(factor: int = 1, ras: RasConfig = DENSE, samples: int = 1, precision: str = "float32") -> tuple[int, ...]:
        own = layout if factor == 1 else coarse_layout(layout, factor)
        plan = make_plan(ras, 10, own.tokens, pinned=own.pinned)
        return tuple(memory(pipeline.spec, [plan], precision, samples=samples, threads=2).parts().values())  # type: ignore[arg-type]

    program, weights, caches, state, conditions, activations, scores, decoder = parts()
    assert decoder == 0  # it ends in pixels
    quarter = parts(2)
    assert quarter[:2] == (program, weights) and quarter[4] == conditions
    for part, whole in ((2, caches), (5, activations)):
        assert whole / quarter[part] == pytest.approx(4, rel=0.05)  # not 16
    masks = 4 * 2 * layout.tokens * 12
    assert scores == 2 * max(SCORE_BLOCK, 64 * 4 * layout.tokens) + masks  # two threads, a block each
    assert parts(samples=3)[2] == 3 * caches
    assert parts(ras=RasConfig(ratio=0.5, forecast_kv=0.5))[2] > 2.3 * caches
    assert parts(precision="int8-bf16")[2] < 0.6 * caches and parts(precision="int8-bf16")[6] == 0
    small = make_plan(DENSE, 1, 64, pinned=8)
    assert memory(pipeline.spec, [small], "float32").scores == 4 * 2 * 64 * (4 * 64 + 12) < WHOLE_SCORES
    state_of_a_step = 2 * layout.tokens
    many = make_plan(DENSE, 1000, layout.tokens, pinned=layout.pinned)
    longer = memory(pipeline.spec, [many], "float32", threads=2)
    assert longer.state - state == 990 * state_of_a_step
    assert longer.conditions > 10 * conditions  # modulations have an entry an evaluation


def test_the_larger_leg_counts(pipeline: Pipeline) -> None:
    layout = TokenLayout.of(pipeline.spec, (256, 256))
    small = coarse_layout(layout, 2)
    full = make_plan(DENSE, 4, layout.tokens, pinned=layout.pinned)
    coarse = make_plan(DENSE, 4, small.tokens, pinned=small.pinned)
    both, alone = (memory(pipeline.spec, plans, "float32") for plans in ([coarse, full], [full]))
    assert both.caches == alone.caches and both.activations == alone.activations


def test_what_is_loaded_counts_as_it_is(pipeline: Pipeline) -> None:
    needed = memory(pipeline.spec, [make_plan(DENSE, 2, 72, pinned=8)], "float32")
    held = needed.program + needed.weights
    assert needed.after(0) == needed.after(held) == needed.total
    assert needed.after(held + 1000) == needed.total + 1000


def test_a_run_that_does_not_fit_is_refused() -> None:
    needs: Callable[[int], int] = (10**9).__mul__
    check_memory(needs, None, 3, "three")
    check_memory(needs, 3 * 10**9, 3, "three")
    with pytest.raises(RequestError) as error:
        check_memory(needs, 25 * 10**8, 3, "three", ", or less")
    assert str(error.value) == (
        "three: about 3.00 GB of memory are needed, and this process may hold 2.50 GB; "
        "allowed are 2 pictures of this size at a time, or less"
    )
    with pytest.raises(RequestError, match=r"1\.00 GB .* may hold 0\.50 GB; ask for a smaller size$"):
        check_memory(needs, 5 * 10**8, 1, "one")


def test_it_is_refused_before_memory_is_asked_for(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flagdit.cpp_ext.Run", lambda *_, **__: pytest.fail("a run was made"))
    monkeypatch.setattr("flagdit.engine.admission.room", lambda: 200 << 20)
    ras = RasConfig(ratio=0.5, forecast_kv=0.5)
    with pytest.raises(RequestError) as error:
        pipeline("a book", size=(4, 65536), ras=ras)
    message = str(error.value)
    assert "a picture of 4x65536 with float32: about " in message and "may hold 0.21 GB" in message
    assert "ask for a smaller size, or for the precision int8-bf16" in message and "without forecast_kv" in message
    request = Request.of(Preset(4, "ab2", DENSE), ["a book"], [0], size=(4, 65536))
    with pytest.raises(RequestError, match=r"65536 with int8-bf16: about .*; ask for a smaller size$"):
        admit(pipeline.spec, pipeline.stages.text.prompts, request, precision="int8-bf16")


def test_a_plan_says_it(flagdit, bundle_dir: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = flagdit("plan", "--bundle", bundle_dir, "--size", "256x256", "--json")
    needed = json.loads(out)["memory"]["float32"]
    assert code == 0 and needed["total"] == sum(size for name, size in needed.items() if name != "total")
    _, out, _ = flagdit("plan", "--bundle", bundle_dir, "--size", "256x256")
    (line,) = (line for line in out.splitlines() if line.startswith("memory"))
    assert f"about {needed['total'] / 1e6:.0f} MB with float32" in line
