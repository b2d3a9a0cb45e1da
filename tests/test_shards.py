"""Official releases in shards of tensor parallelism: merged as they were split, and refused where they do not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import reference
import releases
import torch
from diffused import random_model
from safetensors.torch import load_file, save_file
from tiny import TINY, random_flag_dit
from torch import Tensor

from flagdit.export import Checkpoint, CheckpointError, open_checkpoint
from flagdit.export.families.family import shapes_of
from flagdit.export.weights import write_weights

State = dict[str, Tensor]
PLAIN = replace(TINY, qk_norm=False)

LINEAR_BY_ROWS = ("x_embedder", "mlp.0", "cap_embedder.1", "linear", "adaLN_modulation.1", "wq", "wk", "wv", "wk_y")
LINEAR_BY_ROWS += ("wv_y", "w1", "w3", "gate", "q_norm", "k_norm", "ky_norm")


def split(state: State, ranks: int) -> list[State]:
    """As the layers of the official model would hold it: fairscale's column-parallel ones have rows of a matrix."""
    shards: list[State] = [{} for _ in range(ranks)]
    for name, tensor in state.items():
        layer, kind = re.sub(r"\.(weight|bias)$", "", name), name.rpartition(".")[2]
        of = lambda *names, layer=layer: any(f".{layer}".endswith(f".{n}") for n in names)  # noqa: E731
        if of(*LINEAR_BY_ROWS):
            parts: tuple[Tensor, ...] = tensor.chunk(ranks, 0)
        elif of("wo", "w2", "mlp.2", "embedding_table") and kind == "weight":
            parts = tensor.chunk(ranks, 1)
        else:
            parts = (tensor,) * ranks
        for shard, part in zip(shards, parts, strict=True):
            shard[name] = part.contiguous()
    return shards


def write(folder: Path, state: State, ranks: int, *, ema: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    stem = f"consolidated{'_ema' if ema else ''}"
    for rank, shard in enumerate(split(state, ranks)):
        save_file(shard, folder / f"{stem}.{rank:02d}-of-{ranks:02d}.safetensors")
    return folder


def next_dit() -> State:
    """Official names, made of diffusers' model by the table."""
    theirs, state = random_model("next-dit").state_dict(), {}
    for name, tensor in theirs.items():
        for ours, other in releases.NEXT_DIT.items():
            if name.startswith(other):
                state[name.replace(other, ours, 1)] = tensor
                break
    return state


def stored(opened: Checkpoint, folder: Path) -> bytes:
    """The weights that an export writes."""
    write_weights(folder / "w", shapes_of(opened.model.module), opened.takes, opened.tensors, "float32")
    return (folder / "w").read_bytes()


@pytest.mark.parametrize(
    ("patch", "ranks", "make"),
    [
        (4, 2, lambda: random_flag_dit(TINY).state_dict()),
        (4, 4, lambda: random_flag_dit(PLAIN).state_dict()),
        (2, 2, next_dit),
    ],
    ids=["flag-dit", "without norms of queries", "next-dit"],
)
def test_shards_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: int, ranks: int, make: Callable[[], State]
) -> None:
    """Byte for byte, in pieces that are no multiple of a shard's rows. What differs is said: norms of ranks."""
    monkeypatch.setattr("flagdit.export.weights.PIECE", 7 * 48)
    state = make()
    one, many = (open_checkpoint(write(tmp_path / str(n), state, n), patch) for n in (1, ranks))
    assert stored(one, tmp_path) == stored(many, tmp_path) and many.ranks == ranks and many.ema
    said = [dict(opened.model.config()) for opened in (one, many)]
    assert [config.pop("qk_norm_groups") for config in said] == [1, ranks] and said[0] == said[1]


def test_norms_of_ranks_stay_apart(tmp_path: Path) -> None:
    """Queries and keys were normalised over the heads of a rank: that is what such a model has to do in one piece."""
    state, ranks = random_flag_dit(TINY).state_dict(), 2
    model = open_checkpoint(write(tmp_path / "flag", state, ranks), 4).load()
    image, text, mask = torch.randn(1, 3, 12, 16), torch.randn(1, 5, 16), torch.ones(1, 5, dtype=torch.bool)
    with torch.no_grad():
        found = model(image, torch.tensor([0.3]), text, mask)

    def expected(groups: int) -> Tensor:
        norms = {k: v.reshape(groups, -1) if re.search(r"attention\.\w+_norm", k) else v for k, v in state.items()}
        return reference.velocity(norms, image, torch.tensor([0.3]), text, mask, 4)

    assert (found - expected(ranks)).abs().max() < 1e-5
    assert (found - expected(1)).abs().max() > 1e-3


def test_one_of_the_two_sets_is_taken_and_named(
    flagdit,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = random_flag_dit(PLAIN).state_dict()
    source = write(tmp_path / "release", state, 2)
    write(source, {name: tensor + 1 for name, tensor in state.items()}, 1, ema=False)
    taken: list[Checkpoint] = []
    monkeypatch.setattr("flagdit.export.exporter.export_model", lambda opened, *_, **__: taken.append(opened))
    said = {
        (): (0, "the average of the training's weights (EMA), merged of 2 shards"),
        ("--ema",): (0, "the average of the training's weights (EMA), merged of 2 shards"),
        ("--no-ema",): (1, "the last weights of the training, no EMA"),
    }
    for options, (more, text) in said.items():
        code, _, err = flagdit("export", source, "-o", "model", "--patch-size", 4, *options)
        assert code == 0 and text in err
        assert torch.equal(taken.pop().tensors.read("eol_token"), state["eol_token"] + more)


SHARD = "consolidated_ema.01-of-02.safetensors"


def misshape(folder: Path) -> None:
    state = load_file(folder / SHARD)
    save_file(state | {"x_embedder.bias": torch.zeros(3)}, folder / SHARD)


def rename(folder: Path) -> None:
    state = load_file(folder / SHARD)
    state["other"] = state.pop("x_embedder.bias")
    save_file(state, folder / SHARD)


def strange(folder: Path) -> None:
    for rank in range(2):
        file = folder / f"consolidated_ema.{rank:02d}-of-02.safetensors"
        save_file(load_file(file) | {"context_refiner.0.weight": torch.zeros(2)}, file)


REFUSED: dict[str, tuple[Callable[[Path], object], bool | None, str, str]] = {
    "missing": (lambda f: (f / SHARD).unlink(), None, "", f"{SHARD} missing of 2 shards; get them again"),
    "misshapen": (misshape, None, "", "x_embedder.bias is (3,), in consolidated_ema.00-of-02.safetensors (24,)"),
    "other names": (rename, None, "", "other is in one of it and consolidated_ema.00-of-02.safetensors"),
    "strangers": (strange, None, "", "nobody knows how context_refiner.0.weight is split over shards"),
    "no such set": (lambda f: None, False, "", "holds no consolidated files without _ema, only consolidated_ema files"),
    "file of the other": (lambda f: None, False, SHARD, "is consolidated_ema files, and consolidated files without"),
    "several sets": (
        lambda f: write(f, random_flag_dit(PLAIN).state_dict(), 4),
        None,
        "",
        "holds sets of 2 and 4 shards; give a file of one",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_shards_that_do_not_fit_are_refused(tmp_path: Path, case: str) -> None:
    """By their names and headers, before a number is read."""
    damage, ema, name, message = REFUSED[case]
    source = write(tmp_path / "release", random_flag_dit(PLAIN).state_dict(), 2)
    damage(source)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(source / name, 4, ema)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_shards_of_two_models_are_refused(tmp_path: Path) -> None:
    """What every shard holds is the same in all."""
    source = write(tmp_path / "release", random_flag_dit(PLAIN).state_dict(), 2)
    state = load_file(source / SHARD)
    save_file(state | {"t_embedder.mlp.2.bias": torch.zeros(48)}, source / SHARD)
    with pytest.raises(CheckpointError, match=r"t_embedder\.mlp\.2\.bias is not that of .* shards of two models"):
        stored(open_checkpoint(source, 4), tmp_path)


def test_only_releases_have_an_average(tmp_path: Path) -> None:
    save_file(random_flag_dit(PLAIN).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="which say whether they are the average"):
        open_checkpoint(tmp_path, 4, ema=True)
