"""What a training run keeps: weights, their moving average, the optimizer, and where it stands."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from flagdit.export import FlagDiT
from flagdit.files import write_file
from painters import Painter

MOMENTS = ("exp_avg", "exp_avg_sq")
GATE_RATE = 10.0
"""Rate of the text gates, times the others'. They start at zero, and at 1 had reached .1 after 2,000 steps."""


@dataclass
class Progress:
    """Where a run stands; `seconds` is the training time each stage has used."""

    step: int = 0
    stage: int = 0
    seconds: list[float] = field(default_factory=list)


class TrainState:
    """Model, average and AdamW of one run. Tensors have the names of the model's checkpoint."""

    def __init__(self, make: Callable[[], Painter], device: str = "cpu", weight_decay: float = 0.01) -> None:
        self.model = make().to(device)
        self.average = make().to(device).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        gates = [p for name, p in self.model.named_parameters() if name.endswith("gate")]
        rest = [p for name, p in self.model.named_parameters() if not name.endswith("gate")]
        groups = [
            {"params": rest, "weight_decay": weight_decay, "rate": 1.0},
            *([{"params": gates, "weight_decay": 0.0, "rate": GATE_RATE}] if gates else []),
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self.progress = Progress()

    def begin_with(self, model: FlagDiT) -> None:
        """Take the weights of a trained Flag-DiT, or what of them the family has too, and nothing else of its run."""
        self.model.begin_with(model)
        self.average.load_state_dict(self.model.state_dict())

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the average towards the model; early on it follows faster."""
        step = self.progress.step
        weight = 1 - min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), weight)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the state by name."""
        yield from ((f"model.{k}", v) for k, v in self.model.net.state_dict().items())
        yield from ((f"average.{k}", v) for k, v in self.average.net.state_dict().items())
        for name, parameter in self.model.net.named_parameters():
            moments = self.optimizer.state.get(parameter, {})
            yield from ((f"{key}.{name}", moments[key]) for key in MOMENTS if key in moments)

    def save(self, folder: Path) -> None:
        """Write all of it, and the averaged model."""
        metadata = {"progress": json.dumps(asdict(self.progress))}
        write_tensors(dict(self.tensors()), folder / "state.safetensors", metadata)
        self.save_average(folder)

    def save_average(self, folder: Path) -> None:
        """Write the averaged model as the export reads it."""
        write_tensors(self.average.net.state_dict(), folder / "model.safetensors", {})
        write_file(folder / "config.json", json.dumps({**self.model.config()}, indent=2) + "\n")

    def load(self, folder: Path) -> None:
        """Continue what `save` wrote."""
        with safe_open(str(folder / "state.safetensors"), "pt") as file:
            self.progress = Progress(**json.loads(file.metadata()["progress"]))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        self.model.net.load_state_dict(below(tensors, "model."))
        self.average.net.load_state_dict(below(tensors, "average."))
        moments = {key: below(tensors, f"{key}.") for key in MOMENTS}
        for name, parameter in self.model.net.named_parameters():
            place = parameter.device  # of all of them: AdamW is fused
            state = {key: moments[key][name].to(place) for key in MOMENTS if name in moments[key]}
            if state:  # pad_token is never used here, so it has none
                step = torch.tensor(float(self.progress.step), device=place)
                self.optimizer.state[parameter] = {"step": step, **state}


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a file whole or not at all, so that a killed run leaves a whole one. What has two names is there twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(
        path, save({k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}, metadata)
    )
