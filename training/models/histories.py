"""What exact retrieval, evaluation and training do with a batch of histories: encode them, and mask the seen items."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys.model.two_tower import TwoTower
from training.datasets.sequences import History, pad

ALIKE = 32
"""How many histories of similar length are encoded together. They are padded to the longest of them."""


def encode_histories(model: TwoTower, histories: list[History]) -> Tensor:
    """Query embeddings [histories, embedding_dim], on the model's device. Only the latest items are encoded."""
    latest = [history[-model.config.max_history :] for history in histories]
    device = model.content.device
    queries = torch.empty(len(latest), model.config.embedding_dim, device=device)
    for places in torch.split(torch.argsort(torch.tensor([len(history) for history in latest])), ALIKE):
        items, lengths = pad([latest[place] for place in places])
        queries[places.to(device)] = model.encode(
            torch.from_numpy(items).to(device), torch.from_numpy(lengths).to(device)
        )
    return queries


def mask_seen_items(scores: NDArray[np.float32], seen: list[History]) -> None:
    """Set each history's seen items to -inf in scores [histories, num_items], in place."""
    for row, items in enumerate(seen):
        scores[row, items - 1] = -np.inf
