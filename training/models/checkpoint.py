"""Checkpoints of a training: everything the next step depends on, in one file that is written atomically."""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from training.atomic import atomic_file

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass
class Progress:
    """The progress of a training; `seconds` is the total over all interruptions."""

    seconds: float = 0.0
    step: int = 0
    epoch: int = 0
    batch: int = 0
    """The next batch of this epoch."""
    items: int = 0
    round_loss: float = 0.0
    """Sum of the losses since the last validation."""
    round_steps: int = 0
    best_round: int = -1
    best_ndcg: float = -1.0
    cooldown_from: int | None = None
    """The step at which the final learning rate decay began."""
    cooldown_steps: int = 0
    cooldown_factor: float = 1.0
    history: list[dict[str, float]] = field(default_factory=list)
    """One flat record per round."""


def save_checkpoint(directory: Path, progress: Progress, state: dict[str, Any]) -> None:
    with atomic_file(directory / CHECKPOINT_FILE) as path:
        torch.save({"progress": asdict(progress), "rng": torch.get_rng_state(), **state}, path)


def load_checkpoint(directory: Path) -> tuple[Progress, dict[str, Any]] | None:
    """The last checkpoint, or None. Restores torch's random state."""
    path = directory / CHECKPOINT_FILE
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    torch.set_rng_state(state.pop("rng"))
    return Progress(**state.pop("progress")), state


def remove_checkpoint(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
