"""What the second stage knows of items beside the towers: statistics of the training log, bounded in size.

training makes them, a release ships them as one safetensors file, `ranking_features` reads them.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.errors import ReleaseDamaged
from recsys.model.files import RANKING_TABLES_FILE
from recsys.model.neighbours import Neighbours

PER_ITEM = NDArray[np.float32]


@dataclass(frozen=True)
class RankingTables:
    """Matrices by item_index; rows are items of the history, columns are candidates."""

    next_items: Neighbours
    """P(column comes right after row)."""
    followers: Neighbours
    """P(column follows row within a few steps), the nearer the more it counts."""
    session: Neighbours
    """P(column follows row within many steps)."""
    preceded: Neighbours
    """P(row came before | column): `followers` seen from the candidate, which favours the rare ones."""
    ease: Neighbours
    """Item weights of EASE; empty where the catalogue is too large for them."""
    popularity: PER_ITEM
    """[num_items + 1]: log(1 + interactions in training)."""
    usual_step: PER_ITEM
    """[num_items + 1]: mean log(1 + step) at which users come to the item."""
    usual_share: PER_ITEM
    """[num_items + 1]: mean share of a user's history that lies before the item."""
    audience: PER_ITEM
    """[num_items + 1]: mean log length of the histories that the item is in."""
    year: PER_ITEM
    """[num_items + 1], NaN where it is not known."""
    log_price: PER_ITEM
    """[num_items + 1], NaN where it is not known."""

    def save(self, directory: Path) -> None:
        tensors: dict[str, NDArray[np.generic]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Neighbours):
                tensors |= {f"{field.name}.{part.name}": getattr(value, part.name) for part in fields(value)}
            else:
                tensors[field.name] = value
        save_file(tensors, directory / RANKING_TABLES_FILE)

    @classmethod
    def load(cls, directory: Path) -> "RankingTables":
        """Raises ReleaseDamaged if the file is missing or is not what `save` wrote."""
        path = directory / RANKING_TABLES_FILE
        try:
            tensors = load_file(path)
            values: dict[str, Any] = {
                field.name: Neighbours(*(tensors[f"{field.name}.{part.name}"] for part in fields(Neighbours)))
                if field.type is Neighbours
                else tensors[field.name]
                for field in fields(cls)
            }
        except (OSError, SafetensorError, KeyError) as error:
            raise ReleaseDamaged(f"{path} does not hold the tables of a second stage: {error}") from error
        return cls(**values)
