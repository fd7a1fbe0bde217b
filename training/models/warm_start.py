"""Start the towers from those of a release, for items and content that may have changed since.

A known item keeps its vector and bias. A new item starts from its content, as an item without interactions does.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.model.two_tower import TwoTower, TwoTowerConfig
from recsys.model.vocabulary import Vocabulary
from training.models.item_table import RMS, SPREAD, set_untouched_bias

RIDGE = 0.01
"""Small, so that the content of known items explains what it explained in the release."""
ITEM_TABLE = ("item_embedding.weight", "item_bias.weight", "content_projection", "content", "bias_scale")
"""What follows from items and content; the other weights are copied as they are."""


@dataclass(frozen=True)
class StartingTowers:
    """The towers of a release, and the items of their rows."""

    model: TwoTower
    vocabulary: Vocabulary


def same_architecture(config: TwoTowerConfig, other: TwoTowerConfig) -> bool:
    """Whether all weights but those of the item table have the same shape and meaning."""
    of_the_data = {"num_items", "num_content_features", "dropout"}
    return config.model_dump(exclude=of_the_data) == other.model_dump(exclude=of_the_data)


@torch.no_grad()
def start_from(
    model: TwoTower,
    start: StartingTowers,
    vocabulary: Vocabulary,
    content: NDArray[np.uint8],
    counts: NDArray[np.int64],
    seed: int,
) -> None:
    """Set the weights of `model` to those of `start`. content and counts: rows of `vocabulary`, row 0 is the padding.

    Content features may have other columns than in the release, for example after new words in titles. So ridge
    regression fits the projection anew to what content contributed to the vectors of known items, and their embeddings
    get the residuals: their vectors are exactly those of the release.
    """
    random = np.random.default_rng(seed)
    old = start.model
    rows = np.array([0, *(start.vocabulary.index_of(item_id) or 0 for item_id in vocabulary.item_ids)])
    known = rows > 0
    by_content = (old.content.float() @ old.content_projection).numpy()[rows[known]]
    features = content[known].astype(np.float32)
    gram = features.T @ features + RIDGE * np.eye(features.shape[1], dtype=np.float32)
    projection = np.linalg.solve(gram, features.T @ by_content)

    vectors = np.zeros((len(rows), by_content.shape[1]), dtype=np.float32)
    vectors[known] = old.item_embedding.weight.numpy()[rows[known]] + by_content - features @ projection
    of_new = content[~known].astype(np.float32) @ projection
    rms = np.sqrt(np.mean(of_new**2, axis=1, keepdims=True))
    vectors[~known] = SPREAD * rms * random.standard_normal(of_new.shape, dtype=np.float32)
    # An item with interactions and without content has no direction to learn from.
    alone = (counts > 0) & ~vectors.any(axis=1)
    vectors[alone] = random.normal(scale=RMS, size=(int(alone.sum()), vectors.shape[1]))

    log_counts = np.log(np.maximum(counts, 1)).astype(np.float32)
    biases = np.zeros(len(rows), dtype=np.float32)
    biases[known] = old.item_bias.weight.numpy()[rows[known], 0]
    biases[~known] = log_counts[~known] + np.median(biases[known] - log_counts[known])

    weights = {name: tensor for name, tensor in old.state_dict().items() if name not in ITEM_TABLE}
    model.load_state_dict(weights, strict=False)
    model.content.copy_(torch.from_numpy(content))
    model.content_projection.copy_(torch.from_numpy(projection))
    model.item_embedding.weight.copy_(torch.from_numpy(vectors))
    model.item_bias.weight.copy_(torch.from_numpy(biases).unsqueeze(1))
    set_untouched_bias(model, counts)
