"""What docs/contract.md asks of a model: that its numbers, what it says of its graphs, and the graphs are one.

What holds for all of them is checked once, so that a run needs no checks of its own. No model is known here: what an
input of `denoise` is, its first axis says, and the graph that makes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from flagdit.engine.bundle.graph_spec import Graph, Tensor
from flagdit.engine.bundle.manifest import ModelSpec
from flagdit.engine.bundle.ports import FLOATS, Allowed, caches, constants, placed, shown, timed, twin
from flagdit.engine.bundle.preset_spec import Preset
from flagdit.engine.coarse import coarse_layout
from flagdit.engine.errors import BundleError, FlagditError, RequestError
from flagdit.engine.layout import TokenLayout
from flagdit.engine.presets import of_spec
from flagdit.engine.session import Borders

TEXT_INPUTS: Mapping[str, Allowed] = dict.fromkeys(("input_ids", "attention_mask"), (("int64",), [("R", "T")]))
CONDITION_INPUTS: Mapping[str, Allowed] = {"t": (("float32",), [("S",)]), "text_mask": (("bool",), [("R", "T")])}
"""Besides what the text encoder makes; the first, and the others if it has a use for them."""
PLACE_INPUTS: Mapping[str, Allowed] = {
    "place": (("int64",), [("N", 4)]),  # TokenLayout.places
    "extent": (("int64",), [(3,)]),  # frames, lines and columns of patches
    "ntk": (("float32",), [(1,)]),  # factor on the base of rotary embeddings
    "proportional": (("bool",), [(1,)]),  # whether the softmax sharpens with the number of tokens
    "phase": (("int64",), [(1,)]),  # which of the phases
}
"""Of which a model's takes the first, and what it has a use for."""


def check_spec(path: Path, spec: ModelSpec) -> None:
    """Raise BundleError, by the place in the file `path`, if a specification contradicts itself."""
    try:
        _check_known(spec)
        _check_templates(spec)
        _check_graphs(spec)  # before the numbers: a price is reckoned from axes, which then are known letters
        _check_phases(spec)
        _check_numbers(spec)
        for preset in spec.presets:
            _check_preset(spec, preset)
    except FlagditError as error:
        raise BundleError(f"{path}: {error}; export the model again") from None


def check_denoise(place: str, spec: ModelSpec, inputs: Sequence[Tensor], *, outputs: Sequence[Tensor]) -> None:
    """Raise BundleError unless `denoise`, or an engine of it, takes what the other graphs make, and gives its own."""
    tails = caches(inputs)
    if not tails:
        raise BundleError(f"{place}.inputs: none begins with M, so there is nothing to cache")
    for tensor in tails:
        if "_tail" not in tensor.name:
            raise BundleError(f"{place}: {tensor.name!a} begins with M; allowed are names with _tail")
        if tensor.shape[1:2] != ("R",) or any(isinstance(axis, str) for axis in tensor.shape[2:]):
            raise BundleError(f"{place}: {tensor.name!a} is {shown(tensor.shape)}; allowed is (M, R, and sizes")
    kept = {tensor.dtype for tensor in tails}
    if len(kept) > 1 or not kept <= set(FLOATS):
        raise BundleError(
            f"{place}: its caches are {' and '.join(sorted(kept))}; allowed is one of {', '.join(FLOATS)}"
        )
    patches: Allowed = ("float32",), [("A", "R", spec.patch_values)]
    taken: dict[str, Allowed] = {
        "tokens": patches,
        **placed(spec.graphs.place),
        **{tensor.name: (FLOATS, [tensor.shape[1:]]) for tensor in timed(spec.graphs.condition)},
        **{tensor.name: (FLOATS, [tensor.shape]) for tensor in constants(spec.graphs.condition)},
        **{tensor.name: ((tensor.dtype,), [tensor.shape]) for tensor in tails},
    }
    heads: dict[str, Allowed] = {twin(tensor.name): ((tensor.dtype,), [("A", *tensor.shape[1:])]) for tensor in tails}
    _check_ports(f"{place}.inputs", inputs, taken)
    _check_ports(f"{place}.outputs", outputs, {"velocity": patches, **heads})


def check_borders(name: str, said: Sequence[Tensor], found: Borders) -> None:
    """Raise BundleError unless a graph has the inputs, or the outputs, that are said of it."""
    expected = {tensor.name: tensor for tensor in said}
    _check_names(name, expected, found)
    for port, (dtype, shape) in found.items():
        tensor = expected[port]
        fits = len(shape) == len(tensor.shape) and all(map(_same_axis, shape, tensor.shape))
        if dtype != tensor.dtype or not fits:
            raise BundleError(
                f"{name}: {port} is {dtype} {shown(shape)}; the manifest says {tensor.dtype} {shown(tensor.shape)}, "
                "so export the model again"
            )


def _same_axis(found: int | str | None, said: int | str) -> bool:
    """An axis that has a size for one has the same for the other: a graph may be frozen to what it was traced with."""
    return found == said if isinstance(found, int) or isinstance(said, int) else True


def _check_known(spec: ModelSpec) -> None:
    """Refuse what the format can say and no run can do yet."""
    said: dict[str, tuple[object, object]] = {
        "latent.frames": (spec.latent.frames, 1),
        "tokens.patch, frames": (spec.tokens.patch[0], 1),
        "tokens.closes": ("frame" if "frame" in spec.tokens.closes else "line", "line"),
    }
    for name, (value, known) in said.items():
        if value != known:
            raise BundleError(f"{name} is {value!a:.80}; this flagdit runs {known!a} alone, so it needs a newer one")


def _check_phases(spec: ModelSpec) -> None:
    """That they begin with 0, and are in order; `place` is told which it is."""
    phases = spec.phases
    if phases[0] != 0 or list(phases) != sorted(phases):
        said = ", ".join(f"{phase:g}" for phase in phases)
        raise BundleError(f"phases are {said}; allowed are times that do not fall, from 0")
    if len(phases) > 1 and all(tensor.name != "phase" for tensor in spec.graphs.place.inputs):
        raise BundleError(f"there are {len(phases)} phases, and graphs.place has no input 'phase' to tell them")


def _check_templates(spec: ModelSpec) -> None:
    for number, text in enumerate(spec.texts):
        for name, into in (("template", text.template), ("negative", text.negative)):
            if into is not None and (count := into.count("{}")) != 1:
                raise BundleError(f"texts.{number}.{name} has {{}} {count} times; allowed is once")


def _check_numbers(spec: ModelSpec) -> None:
    if spec.sizes.heads % spec.sizes.kv_heads:
        raise BundleError(
            f"sizes.heads is {spec.sizes.heads}, which {spec.sizes.kv_heads} kv heads do not share evenly"
        )
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


def _check_autoencoder(spec: ModelSpec) -> None:
    """What turns latents into pictures, or back."""
    latents: dict[str, Allowed] = {"latents": (("float32",), [("B", spec.latent.channels, "H", "W")])}
    picture: dict[str, Allowed] = {"picture": (("float32",), [("B", 3, "Y", "X")])}
    for name, made_of, made in (
        ("decode", latents, picture),
        ("encode", picture, latents),
        ("preview", latents, picture),
    ):
        graph: Graph | None = getattr(spec.graphs, name)
        if graph is None:
            continue
        if spec.latent.space != "vae":
            raise BundleError(f"graphs.{name} is there, and latent.space is 'pixels'; allowed is 'vae'")
        _check_ports(f"graphs.{name}.inputs", graph.inputs, made_of)
        _check_ports(f"graphs.{name}.outputs", graph.outputs, made)
    if spec.latent.space == "pixels" and spec.latent.downscale != 1:
        raise BundleError(f"latent.downscale is {spec.latent.downscale} and latent.space 'pixels'; allowed is 1")


def _check_graphs(spec: ModelSpec) -> None:
    _check_autoencoder(spec)
    condition, place = spec.graphs.condition, spec.graphs.place
    features = {tensor.name: tensor.shape for tensor in condition.inputs if _is_features(tensor)}
    if not features:
        raise BundleError("graphs.condition.inputs: no text with a width")
    given: dict[str, Allowed] = {name: (("float32",), [shape]) for name, shape in features.items()}
    known: dict[str, Allowed] = {**CONDITION_INPUTS, "layers": (("float32",), [(spec.layers or "L",)])}
    _check_ports("graphs.condition.inputs", condition.inputs, {**_taken(condition, known), **given})
    _check_skipped(spec)
    _check_condition(spec, condition)
    _check_place(place)
    names = Counter(tensor.name for graph in (condition, place) for tensor in graph.outputs)
    for name, count in names.items():
        if count > 1 or name == "tokens":
            raise BundleError(f"graphs.denoise.inputs: {name!a} is made twice")
    check_denoise("graphs.denoise", spec, spec.graphs.denoise.inputs, outputs=spec.graphs.denoise.outputs)
    for number in range(len(spec.texts)):
        _check_text(spec, number, features)


def _check_skipped(spec: ModelSpec) -> None:
    for layer in spec.guidance.skip_layers:
        if layer >= spec.layers:
            known = str(spec.layers) if spec.layers else "0: graphs.condition has no input 'layers'"
            raise BundleError(f"guidance.skip_layers: {layer}; allowed are numbers below {known}")


def _is_features(tensor: Tensor) -> bool:
    """Whether an input of `condition` is made by a text encoder: of every token of a text, or of all of them."""
    shape = tensor.shape
    if tensor.name in CONDITION_INPUTS or len(shape) not in (2, 3) or shape[0] != "R":
        return False
    return isinstance(shape[-1], int) and (len(shape) == 2 or isinstance(shape[1], int) or shape[1] == "T")


def _check_text(spec: ModelSpec, number: int, features: Mapping[str, tuple[int | str, ...]]) -> None:
    """That an encoder makes the features that no other one makes."""
    text, place = spec.texts[number], f"texts.{number}"
    _check_ports(f"{place}.graph.inputs", text.graph.inputs, TEXT_INPUTS)
    others = {port.name for i, other in enumerate(spec.texts) if i != number for port in other.graph.outputs}
    own: dict[str, Allowed] = {}
    for name, shape in features.items():
        padded = text.padding is not None and len(shape) == 3 and shape[1] == text.max_tokens
        if name not in others:
            own[name] = ("float32",), [shape, *([("R", "T", shape[2])] if padded else [])]
    _check_ports(f"{place}.graph.outputs", text.graph.outputs, own)


def _check_condition(spec: ModelSpec, condition: Graph) -> None:
    for tensor in condition.outputs:
        rows = tensor.shape[1:] if tensor.shape[:1] == ("S",) else tensor.shape
        if tensor.dtype != "float32" or rows[:1] != ("R",) or {*filter(_named, rows[1:])} - {"T"}:
            raise BundleError(
                f"graphs.condition.outputs: {tensor.name!a} is {tensor.dtype} {shown(tensor.shape)}; allowed is "
                "float32 (R, ...) or (S, R, ...) with sizes and T"
            )
    long = {tensor.name for tensor in constants(condition) if "T" in tensor.shape}
    if unknown := sorted(spec.pads.keys() - long):
        raise BundleError(f"pads: {unknown[0]!a} is no output (R, ...) of condition with an axis T")


def _check_place(place: Graph) -> None:
    _check_ports("graphs.place.inputs", place.inputs, _taken(place, PLACE_INPUTS))
    for tensor in place.outputs:
        if {*filter(_named, tensor.shape)} - {"N"} or "N" in tensor.shape[1:]:
            raise BundleError(
                f"graphs.place.outputs: {tensor.name!a} is {shown(tensor.shape)}; allowed are sizes, and N before them"
            )


def _taken(graph: Graph, known: Mapping[str, Allowed]) -> dict[str, Allowed]:
    """The first of the known inputs, and those of the others that a graph has."""
    names, first = {tensor.name for tensor in graph.inputs}, next(iter(known))
    return {name: allowed for name, allowed in known.items() if name in names or name == first}


def _named(axis: int | str) -> bool:
    return isinstance(axis, str)


def _check_ports(place: str, said: Sequence[Tensor], expected: Mapping[str, Allowed]) -> None:
    _check_names(place, expected, [tensor.name for tensor in said])
    for tensor in said:
        types, shapes = expected[tensor.name]
        if tensor.dtype not in types or tensor.shape not in shapes:
            allowed = f"{' or '.join(types)} {' or '.join(shown(shape) for shape in shapes)}"
            raise BundleError(f"{place}: {tensor.name} is {tensor.dtype} {shown(tensor.shape)}; allowed is {allowed}")


def _check_names(place: str, expected: Mapping[str, object], found: Sequence[str] | Mapping[str, object]) -> None:
    if wrong := sorted(expected.keys() ^ set(found)):
        what = "is missing" if wrong[0] in expected else "is none of them"
        raise BundleError(f"{place}: {wrong[0]!a} {what}")
    if len(found) > len(expected):
        raise BundleError(f"{place}: names are there twice")
