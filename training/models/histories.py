"""What exact retrieval, evaluation and training do with a batch of histories: encode them, and mask the seen items."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.two_tower import TwoTower
from training.datasets.sequences import History, pad


def encode_histories(model: TwoTower, histories: list[History]) -> Tensor:
    """Query embeddings [histories, embedding_dim], on the model's device. Only the latest items are encoded."""
    items, lengths = pad([history[-model.config.max_history :] for history in histories])
    device = model.content.device
    return model.encode(torch.from_numpy(items).to(device), torch.from_numpy(lengths).to(device))


def mask_seen_items(scores: NDArray[np.float32], seen: list[History]) -> None:
    """Set each history's seen items to -inf in scores [histories, num_items], in place."""
    for row, items in enumerate(seen):
        scores[row, items - 1] = -np.inf
