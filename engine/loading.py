"""Bundles -> the sessions of their graphs."""

from __future__ import annotations

from flagdit.cpp_ext import LOADED_IN_TURN, InTurn, Session, Weights, check_borders, resident
from flagdit.engine.bundle import Engine, Graph
from flagdit.engine.bundle.reader import Bundle
from flagdit.engine.cpu import Precision
from flagdit.engine.device import Chosen
from flagdit.engine.memory import stored_bytes
from flagdit.engine.preflight import Preflight
from flagdit.engine.run import Stages
from flagdit.engine.session import open_plan, open_session, ports_of
from flagdit.engine.text import TextEncoder


def load_stages(ready: Preflight) -> Stages:
    """The sessions that runs go through. Raises BundleError if files are not those of the bundle."""
    bundle, spec, threads, chosen = ready.bundle, ready.spec, ready.threads, ready.chosen
    # Of TensorRT's runtime a machine need not have more than the engine asks for.
    device = chosen.device if chosen.backend == "onnxruntime" else "cpu"
    weights = Weights()  # read once for all graphs; afterwards the sessions have what they need
    text = TextEncoder([_encoder(bundle, one.graph, threads) for one in spec.texts], ready.prompts)
    # The sums of `condition` depend on the number of threads.
    condition = _session(bundle, spec.graphs.condition, weights, threads=1, device=device)
    place = _session(bundle, spec.graphs.place, Weights(), threads=1)
    denoise = load_denoise(bundle, chosen, weights, threads=threads)
    del weights

    def optional(graph: Graph | None) -> Session | None:
        return None if graph is None else _session(bundle, graph, Weights(), threads=threads, device=device)

    graphs = spec.graphs
    decode, encode, preview = optional(graphs.decode), optional(graphs.encode), optional(graphs.preview)
    return Stages(
        spec, text, condition, place, denoise, bundle.name, resident(), decode=decode, encode=encode, preview=preview
    )


def _encoder(bundle: Bundle, graph: Graph, threads: int | None) -> Session:
    """A text encoder, on the CPU, which runs once. A large one is loaded when it runs, and let go then."""

    def opened() -> Session:
        return _session(bundle, graph, Weights(), threads=threads)

    if stored_bytes(bundle.manifest, graph) < LOADED_IN_TURN:
        return opened()
    return InTurn(graph.file, ports_of(graph.inputs, graph.outputs), opened)


def _session(
    bundle: Bundle,
    graph: Graph | Engine,
    weights: Weights,
    *,
    threads: int | None,
    precision: Precision = "float32",
    lean: bool = False,
    device: str = "cpu",
) -> Session:
    """A graph of the bundle that has the inputs and outputs which the manifest says; see Bundle.graph for `weights`."""
    session = open_session(bundle.graph(graph.file, weights), threads, precision, lean=lean, device=device)
    check_borders(graph.file, ports_of(graph.inputs, graph.outputs), session.ports)
    return session


def load_denoise(bundle: Bundle, chosen: Chosen, weights: Weights, *, threads: int | None) -> Session:
    """Raises BackendError if an engine for a GPU computes wrong numbers."""
    engine = chosen.engine
    if chosen.backend != "onnxruntime" and engine is not None:
        session = open_plan(engine, bundle.read(engine.file))
    else:
        graph = bundle.model.graphs.denoise if engine is None else engine
        session = _session(
            bundle, graph, weights, threads=threads, precision=chosen.precision, lean=True, device=chosen.device
        )
    if engine is not None:
        bundle.check_engine(engine, session)
    return session
