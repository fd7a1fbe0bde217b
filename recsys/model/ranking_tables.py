"""Statistics of the training log for the second stage, bounded in size.

Training computes them, a release contains them as one safetensors file, and `ranking_features` reads them.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file
from safetensors.torch import load_file

from recsys.errors import ReleaseDamaged
from recsys.model.feature_distribution import FeatureDistribution
from recsys.model.files import RANKING_TABLES_FILE
from recsys.model.live_activity import ActivityBase
from recsys.model.neighbours import Neighbours

PER_ITEM = NDArray[np.float32]

STORED_NAMES = {
    "mean_log_position": "usual_step",
    "mean_share_before": "usual_share",
    "mean_log_history_length": "audience",
}
"""Names in existing releases (tensors of this file, features of saved trees) that differ from those in Python."""


def stored_name(name: str) -> str:
    """The name of a table's tensor, and of the feature that is read from it."""
    return STORED_NAMES.get(name, name)


OPTIONAL: dict[str, type[ActivityBase] | type[FeatureDistribution]] = {
    "activity_base": ActivityBase,
    "feature_distribution": FeatureDistribution,
}
"""What a release may lack: it then ranks all the same, and is not followed by what these are for."""


@dataclass(frozen=True)
class RankingTables:
    """Matrices by item_index; rows are items of the history, columns are candidates."""

    next_items: Neighbours
    """P(column follows row directly)."""
    followers: Neighbours
    """P(column follows row within a few steps), weighted by proximity."""
    session: Neighbours
    """P(column follows row within many steps)."""
    preceded: Neighbours
    """P(row came before | column): `followers` normalised by candidate, which favours rare ones."""
    ease: Neighbours
    """Item weights of EASE; empty if the catalogue is too large."""
    popularity: PER_ITEM
    """[num_items + 1]: log(1 + interactions in training)."""
    mean_log_position: PER_ITEM
    """[num_items + 1]: mean log(1 + position) of the item in users' histories."""
    mean_share_before: PER_ITEM
    """[num_items + 1]: mean share of a user's history that is before the item."""
    mean_log_history_length: PER_ITEM
    """[num_items + 1]: mean log length of the histories that contain the item."""
    year: PER_ITEM
    """[num_items + 1], NaN if unknown."""
    log_price: PER_ITEM
    """[num_items + 1], NaN if unknown."""

    category: NDArray[np.int32]
    """[num_items + 1]: the number of the item's narrowest category; 0 if it has none."""
    activity: PER_ITEM
    """[num_items + 1, ACTIVITY_NAMES] at the end of the log; see `item_activity`."""
    sources: NDArray[np.int64]
    """[number of sources]: the most candidates of each `candidate_sources.Source`, in their order."""
    activity_base: ActivityBase | None = None
    """What live events are added to; None if the log has no times."""
    feature_distribution: FeatureDistribution | None = None
    """Of the features that the trees were fitted to."""

    def save(self, directory: Path) -> None:
        tensors: dict[str, NDArray[np.generic]] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Neighbours):
                tensors |= {f"{field.name}.{part.name}": getattr(value, part.name) for part in fields(value)}
            elif isinstance(value, ActivityBase | FeatureDistribution):
                tensors |= value.tensors()
            elif value is not None:
                tensors[stored_name(field.name)] = value
        save_file(tensors, directory / RANKING_TABLES_FILE)

    @classmethod
    def load(cls, directory: Path) -> "RankingTables":
        """Raises ReleaseDamaged if the file is missing or invalid."""
        path = directory / RANKING_TABLES_FILE
        try:
            # The reader for torch maps the file into memory; the one for NumPy copies it.
            tensors = {name: tensor.numpy() for name, tensor in load_file(path).items()}
            values: dict[str, Any] = {
                field.name: Neighbours(*(tensors[f"{field.name}.{part.name}"] for part in fields(Neighbours)))
                if field.type is Neighbours
                else tensors[stored_name(field.name)]
                for field in fields(cls)
                if field.name not in OPTIONAL
            }
            values |= {name: kind.of_tensors(tensors) for name, kind in OPTIONAL.items()}
        except (OSError, SafetensorError, KeyError) as error:
            raise ReleaseDamaged(f"{path} does not contain the tables of a second stage: {error}") from error
        return cls(**values)
