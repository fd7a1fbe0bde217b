"""The NDCG@10 of every tested user by every model, in a file beside the report, to compare models over several cuts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

GAINS_FILE = "gains.safetensors"
_USERS = "users"


@dataclass(frozen=True)
class Gains:
    users: NDArray[np.int64]
    """[users]"""
    of_model: dict[str, NDArray[np.float64]]
    """[users] by the model's name."""

    def save(self, directory: Path) -> None:
        save_file({_USERS: self.users, **self.of_model}, directory / GAINS_FILE)

    @classmethod
    def load(cls, directory: Path) -> "Gains":
        found = load_file(directory / GAINS_FILE)
        return cls(found.pop(_USERS), found)
