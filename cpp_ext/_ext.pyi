"""
Region-adaptive sampling between calls of `denoise`: the C++/CUDA core.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, overload

import numpy
from numpy.typing import NDArray


from collections.abc import Mapping
from typing import Any
from flagdit.cpp_ext.arrays import Array

def with_cuda() -> bool:
    """
    Whether this build has CUDA kernels. Says nothing about whether there is a GPU.
    """

def has_amx() -> bool:
    """
    Whether this CPU and its system lend tiles of int8 and bf16, which the fast operators need.
    """

def raise_as(classes: dict[str, type[Exception]]) -> None:
    """
    Which class an error of the core is raised as, by its fault: request, bundle, backend, number, output; RuntimeError where there is none.
    """

class Step:
    """One interval of the flow: what `denoise` computes, and when."""

    def __init__(self, index: int, t: float, t_next: float, active: int, dense: bool, high: int = 0) -> None: ...

    @property
    def index(self) -> int: ...

    @property
    def t(self) -> float:
        """Where the velocity is evaluated; 0 is noise, 1 is data."""

    @property
    def t_next(self) -> float:
        """Where the update lands."""

    @property
    def active(self) -> int:
        """Slots `denoise` computes, pinned ones included."""

    @property
    def dense(self) -> bool:
        """Whether that is every slot."""

    @property
    def high(self) -> int:
        """Of the cached slots, how many are the highest scores."""

    def __eq__(self, other: object, /) -> bool: ...

    def __hash__(self) -> int: ...

    def __repr__(self) -> str: ...

def flow_times(steps: int, shift: float = 1.0) -> list[float]:
    """
    steps + 1 increasing times from noise (0) to data (1), shifted towards the noise.
    """

def plan_steps(times: Sequence[float], tokens: int, pinned: int = 0, ratio: float | Sequence[float] = 1.0, warmup: int = 4, resets: Sequence[int] = [12, 22], bucket: int = 1, end: int | None = None, skip_step: int = 0, skip_every: int = 0, high_ratio: float = 1.0, mode: str = 'corrected', lines: int = 1, head_multiple: int = 1) -> list[Step]:
    """
    The steps between the times: which are dense, and how many slots the others compute.
    """

def least_max_age(steps: Sequence[Step], tokens: int, pinned: int) -> int:
    """The smallest max_age that the plan can promise."""

def refresh_capacity(steps: Sequence[Step], tokens: int, pinned: int, max_age: int) -> Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C')]:
    """
    (steps, max_age + 1): patches that the h steps after step s can compute.
    """

class Evaluation:
    """One call of `denoise`, and what it adds to the latent."""

    def __init__(self, step: int, t: float, dt: float, bend: float, last: bool, arc: float = 0.0) -> None: ...

    @property
    def step(self) -> int:
        """Index of the step that it is part of."""

    @property
    def t(self) -> float:
        """Where the velocity is evaluated; 0 is noise, 1 is data."""

    @property
    def dt(self) -> float:
        """How far the latent moves along the velocity."""

    @property
    def bend(self) -> float:
        """How far it moves along the velocity's slope."""

    @property
    def arc(self) -> float:
        """How far it moves along the velocity's curve."""

    @property
    def last(self) -> bool:
        """Whether its step ends with it."""

    def __eq__(self, other: object, /) -> bool: ...

    def __hash__(self) -> int: ...

    def __repr__(self) -> str: ...

def plan_evaluations(steps: Sequence[Step], solver: str = 'euler', weights: Sequence[tuple[float, float, float]] = ()) -> list[Evaluation]:
    """
    What `denoise` is called for: once a step, twice with 'midpoint' and 'heun'. weights: of each step, of its velocity, slope and curve in units of h, h^2 and h^3.
    """

class Keeps:
    """What a run remembers of every token besides its last velocity."""

    def __init__(self, *, rate: bool = False, slope: bool = False, curve: bool = False, difference: bool = False, cache_slope: bool = False, known: bool = False) -> None: ...

    @property
    def rate(self) -> bool:
        """When that was computed, and how far it was off: two numbers."""

    @property
    def slope(self) -> bool:
        """How it changed: as many values as the velocity."""

    @property
    def curve(self) -> bool:
        """How the slope changed: as many again, and a number."""

    @property
    def difference(self) -> bool:
        """Of guidance, for steps that reuse it: as many values as the velocity."""

    @property
    def cache_slope(self) -> bool:
        """
        How keys and values changed, and the last computed ones: as many values each.
        """

    @property
    def known(self) -> bool:
        """Whose velocity is given, and that: a flag, and as many values."""

    def __eq__(self, other: object, /) -> bool: ...

class Ranking:
    """How the tokens of the next head are chosen."""

    def __init__(self, *, metric: str = 'change', mode: str = 'corrected', starvation: float = 0.1, dilation: float = 0.0) -> None: ...

    @property
    def metric(self) -> str: ...

    @property
    def mode(self) -> str: ...

    @property
    def starvation(self) -> float: ...

    @property
    def dilation(self) -> float: ...

class Forecast:
    """How velocities of the tail go on; order 0: as they are."""

    def __init__(self, *, order: int = 0, clamp: float = 0.5, keep_norm: bool = False) -> None: ...

    @property
    def order(self) -> int: ...

    @property
    def clamp(self) -> float: ...

    @property
    def keep_norm(self) -> bool: ...

class Budget:
    """What a step may decide when it runs; 0 turns either off."""

    def __init__(self, *, error_budget: float = 0.0, gate: float = 0.0, bucket: int = 1, head_multiple: int = 1) -> None: ...

    @property
    def error_budget(self) -> float: ...

    @property
    def gate(self) -> float: ...

    @property
    def bucket(self) -> int: ...

    @property
    def head_multiple(self) -> int: ...

class Plan:
    """
    All decisions about which step recomputes how much, made before anything runs.
    """

    def __init__(self, *, steps: Sequence[Step], evaluations: Sequence[Evaluation], tokens: int, damping: Sequence[float] | None = None, unconditional: Sequence[bool] | None = None, pinned: int = 0, max_age: int = -1, capacity: NDArray[numpy.int32] | None = None, keeps: Keeps = ..., ranking: Ranking = ..., forecast: Forecast = ..., budget: Budget = ..., phase: Sequence[int] | None = None, skips: Sequence[bool] | None = None, rest_text: bool = False) -> None: ...

    @property
    def steps(self) -> list[Step]: ...

    @property
    def evaluations(self) -> list[Evaluation]:
        """Engine calls, in order: one or two a step, as the solver needs."""

    @property
    def damping(self) -> list[float]:
        """
        (S,): share of the line that cached keys and values go along, 0 outside RAS steps.
        """

    @property
    def unconditional(self) -> list[bool]:
        """
        (S,): whether a step runs that branch of guidance, or reuses the difference.
        """

    @property
    def skips(self) -> list[bool]:
        """(S,): whether a step runs the branch that skips layers, too."""

    @property
    def phase(self) -> list[int]:
        """
        (S,): of the model's phases, the one that a step's tokens are placed for.
        """

    def places_anew(self, step: int) -> bool:
        """
        Whether tokens are placed anew before a step: it is of another phase than the one before.
        """

    def turns(self, step: int) -> bool:
        """
        Whether the guided velocity of a step is of another field than before: a branch that skips layers begins, or has ended.
        """

    def branches(self, step: int) -> int:
        """Of guidance that a step runs."""

    @property
    def tokens(self) -> int: ...

    @property
    def pinned(self) -> int: ...

    @property
    def max_age(self) -> int:
        """-1: no bound."""

    @property
    def capacity(self) -> NDArray[numpy.int32]:
        """
        (S, max_age + 1): patches that the steps after each one can still recompute.
        """

    @property
    def keeps(self) -> Keeps: ...

    @property
    def ranking(self) -> Ranking: ...

    @property
    def forecast(self) -> Forecast: ...

    @property
    def budget(self) -> Budget: ...

    @property
    def rest_text(self) -> bool:
        """Whether RAS steps leave the text's keys and values as they are."""

    def scored_at(self, step: Step) -> float:
        """
        The time that the scores after a step look ahead to: of the next step's last evaluation.
        """

    def runs(self, call: int, step: int) -> bool:
        """
        Whether a step makes the first call of `denoise` (0), the second or the third, where branches are apart.
        """

    def precedes_ras(self, call: int, step: int) -> bool:
        """
        Whether the next step after this one that makes that call reads what is cached.
        """

MAX_STEPS: int = 1000

MAX_TOKENS: int = 131072

def times_of(steps: int | Sequence[float], shift: float, span: tuple[float, float] = (0.0, 1.0)) -> list[float]:
    """
    S + 1 times of the span: of a number of steps, shifted, or as they are given.
    """

def make_plan(ras: object, steps: int | Sequence[float], tokens: int, pinned: int = 0, shift: float = 1.0, solver: str = 'euler', weights: Sequence[tuple[float, float, float]] = (), span: tuple[float, float] = (0.0, 1.0), head_multiple: int = 1, phases: Sequence[float] = (), skips: tuple[int, int] = (0, 0)) -> Plan:
    """
    Plan steps over tokens, of which the pinned ones are always recomputed. ras: an object with the attributes of RasConfig.
    """

def ratios_of(ras: object, steps: int) -> float | list[float]:
    """The ratio of all steps, or of each."""

def resets_of(ras: object, steps: int) -> list[int]:
    """The reset steps of a run."""

def dampings(forecast_kv: float | Sequence[float], steps: int) -> list[float]:
    """The share of the way that cached keys and values go, of each step."""

def unconditional_steps(steps: int, every: int, warmup: int | None = None, dense: set[int] = ...) -> list[bool]:
    """
    Whether each step runs the unconditional branch: the first `warmup` (by default half of them), dense ones, and of the others each `every`-th.
    """

class Price:
    """
    FLOPs of a row of one evaluation that computes A of N tokens beside T of a text: A token + A (N + T) pair + T text + T (N + T) text_pair.
    """

    def __init__(self, *, token: float = 0.0, pair: float = 0.0, text: float = 0.0, text_pair: float = 0.0) -> None: ...

    @property
    def token(self) -> float: ...

    @property
    def pair(self) -> float: ...

    @property
    def text(self) -> float: ...

    @property
    def text_pair(self) -> float: ...

class Sizes:
    """Numbers of a model that prices and memory are made of (price.h)."""

    def __init__(self, *, price: Price, parameters: int = 0, width: int = 0, hidden: int = 0, heads: int = 0, keys: int = 0, patch: int = 0, place: int = 0, cached: int = 0, text: int = 0, text_cached: int = 0, text_values: int = 0, step_values: int = 0) -> None: ...

    @property
    def price(self) -> Price: ...

    @property
    def parameters(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def hidden(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def keys(self) -> int: ...

    @property
    def patch(self) -> int: ...

    @property
    def place(self) -> int: ...

    @property
    def cached(self) -> int: ...

    @property
    def text(self) -> int: ...

    @property
    def text_cached(self) -> int: ...

    @property
    def text_values(self) -> int: ...

    @property
    def step_values(self) -> int: ...

class Cost:
    """Price of a plan for one model."""

    @property
    def flops(self) -> list[float]:
        """Of every evaluation."""

    @property
    def dense_flops(self) -> float:
        """Of a dense one at the full size."""

    @property
    def cache_bytes(self) -> int: ...

    @property
    def total(self) -> float:
        """FLOPs of all evaluations."""

    @property
    def flop_ratio(self) -> float:
        """
        FLOPs of the plan over those of as many dense evaluations: of dense sampling with the same solver.
        """

    @property
    def expected_speedup(self) -> float:
        """
        What the plan gains if time follows FLOPs: the bound a run is measured against.
        """

    def after(self, coarse: Cost) -> Cost:
        """
        This one's and that of the coarse steps before it, whose caches are gone by then.
        """

    def __eq__(self, other: object, /) -> bool: ...

def step_flops(price: Price, active: int, tokens: int, rows: int, text: int, rests: bool = False) -> float:
    """
    FLOPs (2 per multiply-add) of one evaluation: `active` queries over `tokens` keys and `text` text keys; a text that rests is attended to, and not computed.
    """

def price(sizes: Sizes, plan: Plan, samples: int = 1, branches: int = 2, text: int = 32, value_bytes: int = 4, taken: Sequence[tuple[int, int]] | None = None) -> Cost:
    """
    Price a plan; `text` is the number of text tokens, `value_bytes` the size of a cached value. taken: tokens and branches that each step computed, where a run may differ from its plan.
    """

PROGRAM_BYTES: int = 125829120

WHOLE_SCORES: int = 4194304

SCORE_BLOCK: int = 1048576

class Memory:
    """Bytes that a process holds when a run takes most."""

    @property
    def program(self) -> int:
        """Python, its libraries, the text encoder."""

    @property
    def weights(self) -> int: ...

    @property
    def caches(self) -> int:
        """
        What the plan keeps of tokens: keys, values, velocities (Cost.cache_bytes).
        """

    @property
    def state(self) -> int:
        """What else it keeps of them."""

    @property
    def conditions(self) -> int:
        """Keys and values of the text, modulations of all evaluations."""

    @property
    def activations(self) -> int:
        """Of one layer."""

    @property
    def scores(self) -> int:
        """Of attention."""

    @property
    def decode(self) -> int:
        """Of a picture, when those two are gone."""

    @property
    def total(self) -> int:
        """All of it."""

    def parts(self) -> dict[str, int]:
        """All but the total, by name."""

    def after(self, loaded: int) -> int:
        """
        All of it where a process that holds so much has loaded the engine already.
        """

def memory(sizes: Sizes, plans: Sequence[Plan], precision: str, samples: int = 1, branches: int = 2, threads: int = 1, decode: int = 0) -> Memory:
    """
    What a run of these plans one after the other takes in an engine of that precision; of all it says the largest.
    """

def check_memory(needs: Callable[[int], int], present: int | None, samples: int, what: str, less: str = '') -> None:
    """
    Refuse a run that needs more than `present` bytes, with what would fit; None is not known.
    """

@overload
def room() -> int | None:
    """
    Bytes that this process could hold in all, those that it holds already among them; None if nobody says.
    """

@overload
def room(proc: str, cgroups: str, *, memory: int | None = None, address_space: int | None = None) -> int | None:
    """Of a system whose files are there."""

def resident(proc: str = '/proc') -> int:
    """Bytes that this process holds; 0 if nobody says."""

DEFAULT_PRESET: str = 'balanced'

def resolve(options: object, presets: dict[str, Any], shift: float) -> dict[str, Any]:
    """
    How a run is sampled, with nothing left open: the parts of a preset. options, presets: objects with the attributes of Options and Preset.
    """

def begins_with(options: object) -> str | None:
    """The preset that all that is not said is from; paper mode has none."""

def presets_of(specs: Sequence[object], width: int, height: int) -> dict[str, dict[str, Any]]:
    """
    All presets of a model at a size, in parts: flagdit's, or in their place its own.
    """

def preset_of(spec: object) -> dict[str, Any]:
    """A preset of a manifest, in parts."""

def plan_of(preset: object, tokens: int, pinned: int = 0, head_multiple: int = 1, phases: Sequence[float] = [], skips: tuple[int, int] = (0, 0)) -> Plan:
    """
    A preset's steps over tokens of the full size; with no shift of its own, even ones.
    """

def check_coarse(coarse: object) -> None:
    """Refuse a factor or a time that is out of bounds."""

def check_skips(skips: object) -> None:
    """Refuse numbers of skip-layer guidance that are out of bounds."""

def skip_steps(skips: object, steps: int) -> tuple[int, int]:
    """
    The first of the steps that run the branch that skips layers, and the end of them.
    """

def skipped_layers(skips: object, model: Model) -> list[int]:
    """The layers that it skips in a model."""

def check_rest(plan: Plan, model: Model) -> None:
    """Refuse a plan whose text is to rest, of a model whose text cannot."""

def coarse_plan(coarse: object, tokens: int, pinned: int = 0, shift: float = 1.0, phases: Sequence[float] = (), skips: tuple[int, int] = (0, 0)) -> Plan:
    """
    The coarse steps over tokens of the smaller size; `shift` is the run's.
    """

def coarse_layout(layout: Layout, factor: int, scale: int = 1) -> Layout:
    """
    The layout of a picture that is smaller by the factor, refused if that does not tile.
    """

def falling_fields(warmup: int, ratio: float, ratio_end: float, last_dense: bool, forecast_kv: float | Sequence[float]) -> dict[str, Any]:
    """Fields of RasConfig that is dense at the start, and then falls."""

def with_ratio_fields(ras: object, ratio: float, ratio_end: float | None, steps: int) -> dict[str, Any]:
    """Fields of the same plan with another ratio."""

def resized_fields(ras: object, steps: int, count: int) -> dict[str, Any]:
    """
    Fields of regions that were planned for `steps` steps, in a run of `count`.
    """

def advance(output: Array, guidance: Array, velocity: Array, latent: Array, tokens: Array, score: Array, age: Array, drops: Array, dt: float, pinned: int, channels: int, metric: str = 'std', last: bool = True, time: Array | None = None, rate: Array | None = None, slope: Array | None = None, curve: Array | None = None, span: Array | None = None, t: float = 0, next: float = 0, bend: float = 0, arc: float = 0, forecast: float = 0, keep_norm: bool = False, table: Array | None = None, entry: Array | None = None, known: Array | None = None, known_velocity: Array | None = None, stream: int = 0) -> None:
    """
    Guide the head, move every patch along its velocity, score it; in place.
    """

def dilate(score: Array, token: Array, grid: Array, line: int, pinned: int, share: float, stream: int = 0) -> None:
    """
    Raise every score to a share of the highest among its eight neighbours; in place.
    """

def select(score: Array, age: Array, drops: Array, token: Array, active: int, pinned: int, starvation: float, high: int, max_age: int, future: Array | None, swaps: Array, counts: Array, codes: Array, mode: str = 'corrected', entry: Array | None = None, stream: int = 0) -> None:
    """
    Choose the next head; writes the swaps (B, N, 2) and counts (B,) that lead to it.
    """

def tick(entry: Array, stream: int = 0) -> None:
    """
    Go on to the next entry of the tables that `advance` and `select` read; in place.
    """

class GraphCache:
    """
    CUDA graphs by key, at most `capacity`; the least recently used one goes.
    """

    def __init__(self, capacity: int) -> None: ...

    def run(self, key: int, stream: int, record: Callable[[], None]) -> None:
        """
        Do on the stream what record() enqueues on it, which is called if the key is new.
        """

    def __len__(self) -> int: ...

def guide(conditional: Array, unconditional: Array | None, guidance: Array, difference: Array, guided: Array, stream: int = 0, skipping: Array | None = None, skip_guidance: Array | None = None) -> None:
    """
    guided = conditional + (guidance - 1) difference of the head, where the difference is taken anew if there is an unconditional output; with the output of a branch that skips layers, + skip_guidance (conditional - skipping) besides; in place.
    """

def renormalise(output: Array, guided: Array | None, guidance: Array, token: Array, norms: Array, factors: Array, stride: int, at_most: bool, pinned: int = 0, stream: int = 0) -> None:
    """
    Bring the head's guided velocity, (A, B, P) or made of both branches' output (A, 2B, P), to the norm of the conditional one over all slots, by line of `stride` tokens and group of values; in place. norms (N, B, K, 2), factors (B, L, K).
    """

def decide_active(score: Array, velocity: Array, age: Array, future: Array | None, scratch: Array, active: Array, pinned: int, planned: int, bucket: int, max_age: int, error_budget: float, gate: float, entry: Array | None = None, head_multiple: int = 1, stream: int = 0) -> None:
    """
    Write how many slots the step computes, by error budget and gate; 0: it is left out.
    """

def decide_scratch(patches: int, samples: int) -> int:
    """Values of the scratch of decide_active."""

def count_broken(values: Array, count: Array, stream: int = 0) -> None:
    """Add to count (1,) how many of the values are not finite."""

class Picks:
    """
    Tables (E, rows, ...), of whose current entry the rows from the first on are copied to outs (1, rows taken, ...). Keeps them alive.
    """

    def __init__(self, tables: Sequence[Array], outs: Sequence[Array], first_rows: Sequence[int]) -> None: ...

    def copy(self, entry: Array, stream: int = 0) -> None:
        """Copy entry (1,) of every table, or the nearest that there is."""

class SlotBuffers:
    """
    The per-slot arrays (N, rows, ...) of one run; keeps them alive. recomputed: more of them, whose head `denoise` writes next.
    """

    def __init__(self, arrays: Sequence[Array], samples: int, recomputed: Sequence[Array] = ()) -> None: ...

    def swap(self, swaps: Array, counts: Array, stream: int = 0) -> None:
        """
        Exchange the rows of swapped slots in every array, in place; in a recomputed one, copy those of the first slot of a pair, in the head, to the second, in the tail.
        """

def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """
    Ten rounds of Philox 4x32: the four random words of a counter and a key.
    """

def normal_noise(out: Array, seeds: Sequence[int], stream: int = 0) -> None:
    """
    Fill out (B, V) with standard normal values, a row for each seed, as docs/contract.md specifies; in place.
    """

class CacheForecast:
    """
    Keys and values (N, R, ...) of one call of `denoise`, with the last computed ones, and their slopes in bfloat16, zeros at first; anchored (N, B), when, -inf at first. Keeps all alive. dtype is that of values and anchors: float32, bfloat16 (any type of 2 bytes), float16.
    """

    def __init__(self, values: Sequence[Array], anchors: Sequence[Array], slopes: Sequence[Array], anchored: Array, samples: int, dtype: str) -> None: ...

    def move(self, swaps: Array | None, counts: Array | None, fresh: int, time: float, active: int, target: float, damping: float, tail: bool = True, stream: int = 0) -> None:
        """
        Take over the `fresh` first slots, which `denoise` computed at `time`, exchange swapped slots, and forecast what is behind the `active` ones at `target`; in place.
        """

class Layout:
    """The tokens of latents: where they are, which carry none (layout.h)."""

    def __init__(self, height: int, width: int, channels: int, patch: Sequence[int], frames: int = 1, closes_lines: bool = False, closes_frames: bool = False, multiple: int = 1) -> None:
        """
        patch: its frames, height and width, which divide those of the latents. multiple: of tokens, up to which those without a place follow the last patch.
        """

    @property
    def frames(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def patch_frames(self) -> int: ...

    @property
    def patch_height(self) -> int: ...

    @property
    def patch_width(self) -> int: ...

    @property
    def closes_lines(self) -> bool: ...

    @property
    def closes_frames(self) -> bool: ...

    @property
    def multiple(self) -> int: ...

    def __eq__(self, other: object, /) -> bool: ...

    def __hash__(self) -> int: ...

    @property
    def depth(self) -> int:
        """Frames of patches."""

    @property
    def lines(self) -> int:
        """Lines of patches in a frame."""

    @property
    def columns(self) -> int:
        """Patches in a line."""

    @property
    def patches(self) -> int: ...

    @property
    def pinned(self) -> int:
        """Tokens without a latent."""

    @property
    def tokens(self) -> int: ...

    @property
    def patch_values(self) -> int:
        """P, the values of a patch."""

    @property
    def stride(self) -> int:
        """Tokens in a line."""

    def fill_slots(self, out: Array) -> None:
        """
        Fill out (N,) with token ids in the first slot order: those without a latent first.
        """

    def fill_places(self, out: Array) -> None:
        """
        Fill out (N, 4) with index, frame, line and column of each token; -1: it has none.
        """

    def fill_patches(self, token: Array, out: Array) -> None:
        """
        Fill out with the numbers of the patches of token ids; -1 for one without a latent.
        """

    def cut(self, latents: Array, out: Array) -> None:
        """Cut latents (B, C, F, H, W) into out (patches, B, P)."""

    def join(self, patches: Array, out: Array) -> None:
        """Put patches (patches, B, P) together to out (B, C, F, H, W)."""

class Port:
    """An input or output of a graph: its axes are sizes, or letters."""

    def __init__(self, name: str, dtype: str, axes: Sequence[int | str], output: bool = False) -> None: ...

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def axes(self) -> list[int | str]: ...

    @property
    def output(self) -> bool: ...

    def __repr__(self) -> str: ...

class Binding:
    """Inputs and outputs at fixed addresses; keeps the arrays."""

    def run(self) -> None: ...

class Session:
    """A graph that is loaded; threads may share it."""

    @property
    def ports(self) -> list[Port]: ...

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str:
        """cpu or cuda: where arrays that are bound lie."""

    @property
    def stream(self) -> int:
        """That calls are enqueued on, as a number; 0 on a CPU."""

    @property
    def backend(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def finds_tails(self) -> bool:
        """
        Whether its operators read and write caches by token, where keys and values are forecast: no pass of the core makes a tail.
        """

    def bind(self, tensors: Mapping[str, Array]) -> Binding:
        """All inputs and outputs by name, for a graph that runs often."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
        """Run once; the outputs by name."""

LOADED_IN_TURN: int = 536870912

def encoder_bytes(dtype: str, stored: int) -> int:
    """
    About what a text encoder takes while it is loaded, by what its matrices are stored in and the bytes of its files.
    """

class InTurn(Session):
    """
    A graph that is loaded when it runs, and let go when it rests: a text encoder.
    """

    def __init__(self, name: str, ports: Sequence[Port], open: Callable[[], Session]) -> None: ...

    @property
    def loaded(self) -> bool: ...

    def rest(self) -> None:
        """Let go of the graph, once no other thread runs it."""

class OnnxRuntime:
    """ONNX Runtime, from the library at a path."""

    def __init__(self, library: str) -> None: ...

    @property
    def version(self) -> str: ...

    @property
    def has_cuda(self) -> bool:
        """Whether its CUDA provider is there."""

    def open(self, name: str, content: bytes | memoryview, data: Mapping[str, bytes | memoryview] = {}, threads: int | None = None, precision: str = 'float32', lean: bool = False, device: str = 'cpu') -> Session:
        """
        A graph, loaded. content, data: of the graph, and of the files that it has its weights in, which need not be kept. lean: for the graph of a step (onnxruntime.h). device: cpu or cuda.
        """

class StepDone:
    """A step that was done, and the seconds that it took."""

    @property
    def step(self) -> Step: ...

    @property
    def evaluations(self) -> int:
        """Of the velocity; none where the gate says so."""

    @property
    def branches(self) -> int:
        """Of guidance that it computed."""

    @property
    def denoise(self) -> float:
        """Seconds of calls of `denoise`."""

    @property
    def host(self) -> float:
        """Seconds of the work between them; on a GPU the host's."""

    @property
    def launched(self) -> int:
        """Nodes of the graph that it was launched as; 0: piece by piece."""

class Sampler:
    """
    The loop, one step at a time: from noise to latents.

    denoise: a Session, or any object with `ports`, `bind(arrays)` and `run(arrays)`. constant, timed, placed: what its calls take besides the tokens: over the run (R, ...), an entry an evaluation (E, R, ...), by token (N, ...). guidance (P,) f32: scale of every value of a patch; of a plan that skips layers (2, P), with that of the branch which does. start (B, C, F, H, W) f32. later: by phase of the plan after the first, what takes the place of `placed` and of constants.
    """

    def __init__(self, denoise: object, layout: Layout, plan: Plan, *, constant: Mapping[str, Array], timed: Mapping[str, Array], placed: Mapping[str, Array], guidance: Array, start: Array, later: Mapping[int, Mapping[str, Array]] = {}) -> None: ...

    @property
    def done(self) -> bool: ...

    def step(self) -> StepDone:
        """Do the next step."""

    def latents(self, ahead: float = 0.0) -> NDArray[Any]:
        """
        (B, C, F, H, W), moved `ahead` in time along the velocities as they are.
        """

    def ages(self) -> NDArray[Any]:
        """
        (B, F, H, W) in patches: steps since the velocity of each was computed.
        """

    @property
    def seconds(self) -> list[float]:
        """Of each step that was done, as a GPU took them; none of a CPU."""

    @property
    def plain(self) -> str:
        """Why steps are not captured as CUDA graphs; empty if they are."""

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """
        Views of every array that the run keeps, by name; they change with the next step.
        """

class Stages:
    """The graphs of a model: what a run goes through."""

    def __init__(self, *, texts: Sequence[object], condition: object, place: object, denoise: object, encode: object | None = None) -> None:
        """
        Each a Session, or any object with `ports`, `bind(arrays)` and `run(arrays)`.
        """

class Snapshot:
    """A run after one of its steps, kept while it goes on."""

    def latents(self) -> NDArray[Any]:
        """
        (B, C, F, H, W), moved ahead in time as it was asked for; waits for the step.
        """

class Run:
    """
    One generation, a step at a time (run.h), of a job that is planned and admitted.
    """

    def __init__(self, stages: Stages, job: Job, prompts: Prompts) -> None: ...

    def step(self) -> StepDone:
        """Do the next step; the first one encodes the text before."""

    @property
    def done(self) -> bool: ...

    @property
    def begun(self) -> bool:
        """Whether there is a state: from within the first step on."""

    @property
    def count(self) -> int:
        """Steps that are done."""

    @property
    def total(self) -> int:
        """Steps of all legs."""

    @property
    def leg(self) -> int:
        """That the last step was of."""

    @property
    def text_tokens(self) -> int:
        """Of the longest text."""

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, before and between the steps."""

    @property
    def step_seconds(self) -> list[float]:
        """
        Of each step that was done, as a GPU took them, which it waits for; none of a CPU.
        """

    @property
    def plain(self) -> str:
        """Why steps are not captured as CUDA graphs; empty if they are."""

    def latents(self, ahead: float = 0.0) -> NDArray[Any]:
        """
        (B, C, F, H, W) of the leg, moved `ahead` in time along the velocities.
        """

    def ages(self) -> NDArray[Any]:
        """
        (B, F, H, W) in patches: steps since the velocity of each was computed.
        """

    def snapshot(self, ahead: float = 0.0) -> Snapshot:
        """
        What there is to see now, kept while the run goes on; waits for nothing.
        """

    def all_ages(self) -> NDArray[Any]:
        """
        (S, B, F, H, W) in patches: the same after each of the leg's steps that were done.
        """

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """Views of every array that the leg keeps, by name; steps change them."""

TILE: int = 512

def report_of(run: Run, job: Job, *, stages: Stages, model: Model, name: str, digest: str, bundle: str, steps: Sequence[StepDone], legs: Sequence[int], decode: float = 0.0, said: bool = True) -> str:
    """
    report.json of a run that is done. steps: what each gave; legs: that each was of; decode: seconds from the last one to the picture; said: whether the job was made of options.
    """

def decode(session: object, latents: Array, downscale: int, tile: int = 0) -> NDArray[Any]:
    """
    Pictures (B, 3, Y, X) in [-1, 1] of latents (B, C, H, W) (autoencoder.h). tile: pixels of the side of tiles that are decoded one by one and blended; 0 is the whole at once.
    """

def encode(session: object, pictures: Array, downscale: int) -> NDArray[Any]:
    """Latents (B, C, H, W) of pictures (B, 3, Y, X) in [-1, 1]."""

def decode_bytes(width: int, height: int) -> int:
    """
    Bytes that a decoder takes of a picture of so many pixels, in tiles if it is large: as counted.
    """

def upsample(images: Array, factor: int) -> NDArray[Any]:
    """
    Images (B, C, H, W) at `factor` times their height and width, by Catmull-Rom's cubics.
    """

def coarse_noise(noise: Array, factor: int) -> NDArray[Any]:
    """
    Noise (B, C, H / factor, W / factor) of a smaller picture: block means, times the factor.
    """

def errors_left(score: Array, velocity: Array) -> NDArray[Any]:
    """
    Mean error (patches + 1,) of all patches if the k with the highest scores are computed, in units of each sample's velocity, rms; of the worst sample. score (patches, B), velocity (patches, B, P), f32.
    """

def patches_needed(errors: Sequence[float], budget: float, bucket: int = 1) -> int:
    """
    The least number of patches to compute that keeps the error within the budget, in whole sixteenths of the picture, each a multiple of the bucket.
    """

def forced(age: Array, future: Array, max_age: int) -> bool:
    """
    Whether any patch must be computed now to keep the promise of refresh.h; age (patches, B), future (max_age + 1,), i32.
    """

def exif_orientation(exif: bytes) -> int:
    """
    Which way up a picture is, 1 to 8, as EXIF says; 0 if it does not, or is damaged.
    """

MAX_SEED: int = 18446744073709551615

def check_request(request: object) -> None:
    """
    Refuse what no model could serve. request: with the attributes of Request.
    """

def checked_seed(seed: object) -> int:
    """The seed, if it is one of 64 bits without a sign."""

def check_texts(request: object, prompts: Prompts) -> None:
    """
    Refuse a prompt that is none or too long, and any where there is no text encoder.
    """

def head_multiple(row_values: Sequence[int]) -> int:
    """
    What active slots are a multiple of, so that the tails of caches of rows of so many values begin at multiples of 256 bytes.
    """

class Model:
    """
    What a manifest says of a model that jobs need: numbers, and no family.
    """

    def __init__(self, *, channels: int, patch: tuple[int, int, int], size: tuple[int, int], sizes: Sizes, closes_lines: bool = False, closes_frames: bool = False, frames: int = 1, downscale: int = 1, guided: Sequence[int] = (), pads: Mapping[str, float] = {}, takes_ntk: bool = False, takes_proportional: bool = False, shift: float | tuple[int, int, float, float] = 1.0, presets: Sequence[object] = (), head_multiple: int = 1, multiple: int = 1, renormalise: str = 'none', vae: bool = False, encodes: bool = False, decodes: bool = False, ntk_power: float = 1.0, phases: Sequence[float] = (0.0,), layers: int = 0, skipped: Sequence[int] = ()) -> None: ...

    @property
    def head_multiple(self) -> int: ...

    def layout(self, size: tuple[int, int] | None = None) -> Layout:
        """
        Of a picture of a size (width, height), by default its own; refused if that is not made of patches.
        """

    def shift(self, size: tuple[int, int] | None = None) -> float:
        """The time shift that suits the model at a size."""

    def ntk(self, said: float | str | None, size: tuple[int, int] | None = None) -> float:
        """
        The factor of sizes beyond training: 1 for None, else what is said; 'auto' is the area over the training area, at least 1, to the model's power.
        """

    def phases(self, ntk: float | str | None, size: tuple[int, int] | None = None) -> list[float]:
        """
        The times from which on a run with such a factor places its tokens anew.
        """

    def presets(self, size: tuple[int, int] | None = None) -> dict[str, dict[str, Any]]:
        """Its presets at a size, in parts: its own, and flagdit's."""

    def may_rest(self, size: tuple[int, int] | None = None) -> bool:
        """Whether its text can rest beside a picture of that size."""

    @property
    def sizes(self) -> Sizes: ...

class Job:
    """A request as a model will serve it: planned, nothing left open."""

    @property
    def legs(self) -> list[tuple[Layout, Plan, float]]:
        """Layout, plan and factor on theta of each size, the full one last."""

    def admit(self, model: Model, precision: str, room: int | None, loaded: int = 0, threads: int = 1) -> None:
        """
        Decode in tiles where the whole does not fit; refuse a job that needs more memory than there is.
        """

    @property
    def tile(self) -> int:
        """
        Pixels of the side of tiles that are decoded one by one; 0: the whole at once.
        """

    def kept(self, pictures: Array) -> NDArray[Any]:
        """Pictures (B, 3, Y, X) with what stays of the one that was given."""

    def replanned(self, plan: Plan) -> Job:
        """The same with another plan at the full size, for experiments."""

def job_of(request: object, model: Model) -> Job:
    """Plan a request, with the attributes of Request."""

def resolved_job(request: object, model: Model) -> Job:
    """Plan a request by its options alone, as a program without Python does."""

class Tokenizer:
    """
    A tokenizer.json: the ids of Hugging Face's tokenizers. What it does not know is refused.
    """

    @staticmethod
    def read(name: str, content: bytes) -> Tokenizer:
        """
        Of the content of the file `name`. Raises the error of a bundle if it is none.
        """

    @overload
    def encode(self, text: str) -> list[int]: ...

    @overload
    def encode(self, text: bytes) -> list[int]:
        """Token ids of a text, with the marks of its beginning and end."""

    @property
    def longest(self) -> int:
        """Characters of a text that may be given to it."""

class Prompts:
    """Which prompts a model takes: the tokenizers of its encoders say that."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, *, template: str = '{}', negative: str | None = None, padding: int | None = None, truncate: bool = False) -> None:
        """
        Of one encoder. max_tokens: that it takes. template, negative: what a prompt and the text of the unconditional branch are put into, at {}; none is the same. padding: the token that fills up to max_tokens. truncate: cut what is longer. Raises the error of a bundle if an empty text has more tokens, or none.
        """

    @staticmethod
    def of(each: Sequence[Prompts]) -> Prompts:
        """Of several encoders, one after the other."""

    def check(self, prompt: str, name: str = 'prompt', *, negative: bool = False) -> None:
        """
        Refuse a prompt that is blank, no Unicode, or too long; `name` says which it is.
        """

    def tokens(self, prompt: str, *, negative: bool = False) -> list[int]:
        """
        Token ids of a prompt for the first encoder; of an empty text those that guidance leads away from. negative: of the unconditional branch.
        """

    def all_tokens(self, prompt: str, *, negative: bool = False) -> list[list[int]]:
        """The same for each encoder."""

class FileRecord:
    """
    What is known of an open file by its descriptor, which is read after this is made and stays open as long as it is used.
    """

    def __init__(self, file: int, now: int | None = None) -> None:
        """now: nanoseconds since 1970; the system's if it is not said."""

    def holds(self, sha256: str) -> bool:
        """
        Whether the file was found to have this digest before, and is as it was then.
        """

    def unchanged(self) -> bool:
        """Whether it is still as it was when this was made."""

    def keep(self, sha256: str) -> None:
        """
        That it has this digest: all of it was read since this was made. A file that is small, or changed a short while ago, is not remembered.
        """

def records_folder() -> str:
    """Where digests are remembered; empty if they are not."""

class Weights:
    """Files of weights that graphs of a bundle share."""

    def __init__(self) -> None: ...

    @property
    def files(self) -> list[str]:
        """Names of those that were read whole."""

class Bundle:
    """A directory whose files are what its manifest says."""

    @staticmethod
    def open(path: str) -> Bundle:
        """Raises the error of a bundle if it is none."""

    @staticmethod
    def of(path: str, text: bytes) -> Bundle:
        """
        Of a directory and what its manifest.json would say. Raises the error of a bundle if that contradicts itself.
        """

    def check(self) -> int:
        """
        Every file. Returns how many were not read, since they were found right before. Raises the error of a bundle.
        """

    @staticmethod
    def verify(path: str, told: Callable[[int, int], object]) -> list[str]:
        """
        Read every byte, whatever is known. told: of the bytes that are done, and of how many. Returns a line for each file that is not what the manifest says. Raises the error of a bundle if its manifest is none.
        """

    def read(self, file: str, limit: int | None = None) -> memoryview:
        """
        A file's bytes, as the manifest says they are, in memory of this process. Raises the error of a bundle if they are not, or are more than `limit`, that of a backend if there is no memory.
        """

    def graph(self, file: str, weights: Weights) -> tuple[memoryview, dict[str, memoryview]]:
        """
        A graph's bytes, and those of the files that its weights are in, by name. Of a file that is known to be right only what the graph has in it is read, and zeros are the rest; else all of it, once for all graphs with the same `weights`. Raises as `read` does.
        """

    def check_engine(self, engine: EngineFacts, session: object) -> None:
        """
        Try an engine of `denoise` for a GPU before it is used, if there are vectors. Raises the error of a backend if it computes wrong numbers.
        """

    @property
    def text(self) -> bytes:
        """Of manifest.json, as it was read."""

    @property
    def name(self) -> str: ...

    @property
    def graphs(self) -> list[str]:
        """Files that ONNX Runtime may load."""

    def tokens(self, prompt: bytes) -> list[int]:
        """
        Token ids of a prompt, for the first encoder. Raises the error of a request.
        """

def selftest_cases() -> list[tuple[int, int, int, int]]:
    """
    Active and cached tokens and rows of each call of a self-test; above 0 it is one without a text, of a model whose text may rest, and caches that no text adds to have so many tokens less.
    """

def check_selftest(session: object, content: bytes | memoryview) -> None:
    """
    Raise the error of a backend unless a session of `denoise`, which is run once for each case, makes what it should of the vectors in the content of a selftest.safetensors; of a bundle if that has none.
    """

def sha256(data: bytes) -> str: ...

def check_manifest(path: str, content: bytes) -> None:
    """Raises the error of a bundle unless a manifest.json can be read."""

def check_model(path: str, content: bytes) -> None:
    """Raises the error of a bundle unless a model.json can be read."""

def check_borders(file: str, said: Sequence[Port], found: Sequence[Port]) -> None:
    """
    Raises the error of a bundle unless a graph has the inputs and outputs that are said of it. An axis of the graph that has no name may be any.
    """

def external_files(name: str, content: bytes | memoryview, sizes: Mapping[str, int]) -> list[str]:
    """
    Names of the files that a graph has weights in; sizes: of all that it may, in bytes. Raises the error of a bundle, by the graph's name, for any other file, for what is behind the end of one, for a tensor outside that is no weight of the graph, and for what is no ONNX file.
    """

def external_tensors(name: str, content: bytes | memoryview) -> list[tuple[str, str, int, int]]:
    """
    Name, file, offset and bytes of each tensor of a graph whose values are not in it. Raises as `external_files` does.
    """

class Gpu:
    """The GPU that runs use: the first one."""

    def __init__(self, *, kernels: bool = False, name: str = '', architecture: int = 0, reason: str = '') -> None: ...

    @staticmethod
    def here() -> Gpu: ...

    @property
    def kernels(self) -> bool:
        """Whether this build has kernels for one."""

    @property
    def name(self) -> str:
        """Empty: there is none."""

    @property
    def reason(self) -> str:
        """Why there is none, in the driver's words."""

    @property
    def architecture(self) -> int:
        """Its compute capability times ten."""

    @property
    def free(self) -> int:
        """Bytes of its memory that nobody has."""

    @property
    def shared(self) -> bool:
        """Whether its memory is the CPU's."""

def choose_device(device: str, backend: str, gpu: Gpu, provider: bool) -> str:
    """
    cpu or cuda: where runs go that ask for that, or for auto. provider: whether ONNX Runtime has its CUDA provider. Raises the error of a backend with what is missing.
    """

def with_tensorrt() -> bool:
    """
    Whether this build has the backend TensorRt. Says nothing about whether TensorRT is installed.
    """

class TensorRt:
    """TensorRT, from the library at a path, or the system's."""

    def __init__(self, library: str = '') -> None: ...

    @property
    def version(self) -> str: ...

    def open(self, name: str, content: bytes | memoryview, ports: Sequence[Port], precision: str) -> Session:
        """
        An engine of this version and for this GPU. ports: as the manifest has them.
        """

class DeviceMemory:
    """
    Zeros in the GPU's memory, at a multiple of 256 bytes, as long as this is kept.
    """

    def __init__(self, bytes: int) -> None: ...

    @property
    def bytes(self) -> int: ...

    @property
    def address(self) -> int: ...

    def write(self, values: Array, stream: int) -> None:
        """All of it, from an array of NumPy; waits for the stream."""

    def read(self, into: Array, stream: int) -> None:
        """All of it, into an array of NumPy; waits for the stream."""

class DeviceStream:
    """A stream of the GPU that waits for no other."""

    def __init__(self) -> None: ...

    @property
    def number(self) -> int: ...

    @property
    def captures(self) -> bool:
        """Whether what is enqueued now becomes part of a CUDA graph."""

    def wait(self) -> None:
        """Until all that was enqueued is done."""

class ArrayView:
    """Where an array lies, and what it holds."""

    def __init__(self, name: str, array: Array) -> None:
        """name: for messages. The array must be kept by somebody else."""

    @property
    def address(self) -> int: ...

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def device(self) -> str: ...

class Cpu:
    """What a CPU multiplies in faster than in fp32."""

    def __init__(self, *, int8: bool = False, tiles: bool = False) -> None: ...

    @staticmethod
    def here() -> Cpu: ...

    @property
    def int8(self) -> bool:
        """int8 products that are exact: VNNI, AMX, dotprod."""

    @property
    def tiles(self) -> bool:
        """Tiles of int8 and bf16, which its system lends."""

def has_int8(cpuinfo: str) -> bool:
    """Whether the first CPU of Linux's list has such instructions."""

class EngineFacts:
    """What an engine is chosen by."""

    def __init__(self, graph: str, file: str, target: str, precision: str, architectures: Sequence[int]) -> None: ...

def available_on_cpu(engines: Sequence[EngineFacts], cpu: Cpu) -> list[str]:
    """
    Precisions of `denoise` that there are engines of and the CPU is made for, fastest first.
    """

def unused_on_cpu(engines: Sequence[EngineFacts], cpu: Cpu) -> list[str]:
    """A line for each reason that some engines cannot run on a CPU."""

def choose_on_cpu(engines: Sequence[EngineFacts], model: str, precision: str | None, cpu: Cpu) -> int | None:
    """
    Which engine `denoise` runs in on a CPU, by default the fastest; none is the model's own graph. Raises the error of a backend.
    """

def choose_on_gpu(engines: Sequence[EngineFacts], model: str, backend: str, precision: str | None, gpu: Gpu) -> int | None:
    """
    Which engine runs on a GPU; none is the model's own graph. Raises the error of a backend.
    """

def checked_threads(threads: int) -> int:
    """
    The number of threads. Raises the error of a backend if it is out of bounds.
    """
