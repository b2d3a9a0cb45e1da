"""What docs/contract.md asks of a model: that its numbers, what it says of its graphs, and the graphs are one.

What holds for all of them is checked once, so that a run needs no checks of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flagdit.engine.coarse import coarse_layout
from flagdit.engine.errors import BundleError, FlagditError, RequestError
from flagdit.engine.layout import TokenLayout
from flagdit.engine.manifest import ModelSpec, Preset, Tensor
from flagdit.engine.presets import of_spec
from flagdit.engine.session import Borders
from flagdit.files.printable import printable

Shape = tuple[int | str, ...]
Ports = Mapping[str, Shape]

FLOATS = ("float32", "float16", "bfloat16")
"""What keys and values may be in `denoise`; all else that is no number of a token is float32."""


def condition_inputs(width: int) -> Ports:
    """width: of a text's features."""
    return {"t": ("S",), "text": ("R", "T", width), "text_mask": ("R", "T")}


def text_conditions(spec: ModelSpec) -> Ports:
    """What `condition` makes of a text and `denoise` takes as it is."""
    layers, kv = spec.layers, spec.layers.kv_heads
    names = [f"text_{kind}.{layer}" for layer in range(layers.count) for kind in ("key", "value")]
    return {"text_bias": ("R", 1, 1, "T"), **dict.fromkeys(names, ("R", kv, "T", spec.rope.head_dim))}


def modulations(spec: ModelSpec) -> Ports:
    """What `condition` makes of every time, behind the axis S, and `denoise` takes of one."""
    layers = spec.layers
    return {"modulation": ("R", layers.count, 6, layers.width), "final_modulation": ("R", 2, layers.width)}


def caches(spec: ModelSpec, place: str, axis: str) -> Ports:
    """Keys and values of the tail (axis M), or of the head (axis A)."""
    shape: Shape = (axis, "R", spec.layers.kv_heads, spec.rope.head_dim)
    return {f"{kind}_{place}.{i}": shape for i in range(spec.layers.count) for kind in ("key", "value")}


def denoise_inputs(spec: ModelSpec) -> Ports:
    values, half = spec.latent.channels * spec.tokens.patch_size**2, spec.rope.head_dim // 2
    return {
        "tokens": ("A", "R", values),
        "special": ("A", 1),
        "rope_cos": ("A", "R", half),
        "rope_sin": ("A", "R", half),
        "attention_scale": (1,),
        **modulations(spec),
        **text_conditions(spec),
        **caches(spec, "tail", "M"),
    }


def denoise_outputs(spec: ModelSpec) -> Ports:
    values = spec.latent.channels * spec.tokens.patch_size**2
    return {"velocity": ("A", "R", values), **caches(spec, "head", "A")}


def check_spec(path: Path, spec: ModelSpec) -> None:
    """Raise BundleError, by the place in the file `path`, if a specification contradicts itself."""
    try:
        _check_numbers(spec)
        _check_graphs(spec)
        for preset in spec.presets:
            _check_preset(spec, preset)
    except FlagditError as error:
        raise BundleError(f"{path}: {error}; export the model again") from None


def check_denoise(place: str, spec: ModelSpec, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Raise BundleError unless `denoise`, or an engine of it, is said to take and give what it should."""
    _check_ports(f"{place}.inputs", inputs, denoise_inputs(spec))
    _check_ports(f"{place}.outputs", outputs, denoise_outputs(spec))
    kept = {tensor.dtype for tensor in (*inputs, *outputs) if tensor.name.startswith(("key_", "value_"))}
    if len(kept) > 1:
        raise BundleError(f"{place}: its keys and values are {' and '.join(sorted(kept))}; allowed is one of them")


def check_borders(name: str, said: Sequence[Tensor], found: Borders) -> None:
    """Raise BundleError unless a graph has the inputs, or the outputs, that are said of it."""
    expected = {tensor.name: tensor for tensor in said}
    _check_names(name, expected, found)
    for port, (dtype, shape) in found.items():
        tensor = expected[port]
        fits = len(shape) == len(tensor.shape) and all(map(_same_axis, shape, tensor.shape))
        if dtype != tensor.dtype or not fits:
            raise BundleError(
                f"{name}: {port} is {dtype} {_text(shape)}; the manifest says {tensor.dtype} {_text(tensor.shape)}, "
                "so export the model again"
            )


def _same_axis(found: int | str | None, said: int | str) -> bool:
    """An axis that has a size for one has the same for the other: a graph may be frozen to what it was traced with."""
    return found == said if isinstance(found, int) or isinstance(said, int) else True


def _check_numbers(spec: ModelSpec) -> None:
    layers, head = spec.layers, spec.rope.head_dim
    if head % 2:
        raise BundleError(f"rope.head_dim is {head}; allowed are even numbers")
    if layers.width != layers.heads * head:
        raise BundleError(f"layers.width is {layers.width}, which is not {layers.heads} heads of {head}")
    if layers.heads % layers.kv_heads:
        raise BundleError(f"layers.heads is {layers.heads}, which {layers.kv_heads} kv heads do not share evenly")
    if spec.tokens.special != ("nextline",):
        raise BundleError("tokens.special is not nextline alone, which is what lines of patches end with")
    if (spec.text is None) != (spec.graphs.text_encoder is None):
        raise BundleError("text and graphs.text_encoder: one is there without the other")
    try:
        TokenLayout.of(spec, None)
    except RequestError as error:
        raise BundleError(f"latent.size: {error}") from None


def _check_preset(spec: ModelSpec, preset: Preset) -> None:
    """That it can be planned at the size that it was calibrated for."""
    try:
        how, layout = of_spec(preset), TokenLayout.of(spec, preset.size)
        how.plan(layout.tokens, layout.pinned)
        if how.coarse is not None:
            smaller = coarse_layout(layout, how.coarse.factor)
            how.coarse.plan(smaller.tokens, smaller.pinned)
    except RequestError as error:
        raise BundleError(f"presets, {preset.name}: {error}") from None


def _check_graphs(spec: ModelSpec) -> None:
    condition, encoder = spec.graphs.condition, spec.graphs.text_encoder
    width = next((t.shape[-1] for t in condition.inputs if t.name == "text" and t.shape), None)
    if not isinstance(width, int):
        raise BundleError("graphs.condition.inputs: no text with a width")
    _check_ports("graphs.condition.inputs", condition.inputs, condition_inputs(width))
    timed = {name: ("S", *shape) for name, shape in modulations(spec).items()}
    _check_ports("graphs.condition.outputs", condition.outputs, {**timed, **text_conditions(spec)})
    if any(tensor.dtype != "float32" for tensor in condition.outputs):
        raise BundleError("graphs.condition.outputs: not all are float32")
    check_denoise("graphs.denoise", spec, spec.graphs.denoise.inputs, spec.graphs.denoise.outputs)
    if spec.text is not None and encoder is not None:
        if spec.text.width != width:
            raise BundleError(f"text.width is {spec.text.width}, and condition takes texts of {width}")
        _check_ports("graphs.text_encoder.inputs", encoder.inputs, dict.fromkeys(TEXT_INPUTS, ("R", "T")))
        _check_ports("graphs.text_encoder.outputs", encoder.outputs, {"text": ("R", "T", width)})


TEXT_INPUTS = ("input_ids", "attention_mask")
DTYPES = {"text_mask": ("bool",), **dict.fromkeys(TEXT_INPUTS, ("int64",))}
"""Of the ports that are not float32."""


def _check_ports(place: str, said: Sequence[Tensor], expected: Ports) -> None:
    _check_names(place, expected, [tensor.name for tensor in said])
    for tensor in said:
        if tensor.shape != expected[tensor.name]:
            shapes = f"{_text(tensor.shape)}; by the sizes of the model it is {_text(expected[tensor.name])}"
            raise BundleError(f"{place}: {tensor.name} is {shapes}")
        key = tensor.name.partition(".")
        allowed = FLOATS if key[1] else DTYPES.get(key[0], ("float32",))
        if tensor.dtype not in allowed:
            raise BundleError(f"{place}: {tensor.name} is {tensor.dtype}; allowed are {', '.join(allowed)}")


def _check_names(place: str, expected: Mapping[str, object], found: Sequence[str] | Mapping[str, object]) -> None:
    if wrong := sorted(expected.keys() ^ set(found)):
        what = "is missing" if wrong[0] in expected else "is none of them"
        raise BundleError(f"{place}: {wrong[0]!a} {what}")
    if len(found) > len(expected):
        raise BundleError(f"{place}: names are there twice")


def _text(shape: Sequence[int | str | None]) -> str:
    """A shape on one line: of axes a manifest may say anything."""
    return f"({', '.join('?' if axis is None else printable(str(axis)) for axis in shape)})"
