"""Initialise the item table: co-occurrence vectors, the part of them that content explains, and popularity."""

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.model.two_tower import TwoTower
from training.datasets.sequences import Sequences
from training.models.cooccurrence import directed_cooccurrence, ppmi_vectors

RMS = 0.05
"""Root mean square of the vectors' components. Only their direction matters; longer vectors change more slowly."""
RIDGE = 10.0
SPREAD = 0.2
"""Length of the noise relative to the content's vector. It separates items of the same content, because a graph index
performs badly with thousands of equal vectors."""


@torch.no_grad()
def initialise_item_table(
    model: TwoTower, sequences: Sequences, content: NDArray[np.uint8], counts: NDArray[np.int64], seed: int
) -> None:
    """Set item embedding, content projection, content buffer and bias of `model`.

    Ridge regression fits the content projection to the co-occurrence vectors, and the item embeddings get the
    residuals, so items without interactions are placed, and stay, near similar items. Items without interactions and
    content get a zero vector.
    """
    random = np.random.default_rng(seed)
    touched = counts > 0
    vectors = ppmi_vectors(directed_cooccurrence(sequences), model.config.embedding_dim - 1, seed)
    vectors *= RMS / max(float(np.sqrt(np.mean(vectors[touched] ** 2))), 1e-12)
    # An item without neighbours has a zero vector, which has no direction to learn from.
    alone = touched & ~vectors.any(axis=1)
    vectors[alone] = random.normal(scale=RMS, size=(int(alone.sum()), vectors.shape[1]))
    features = content[touched].astype(np.float32)
    gram = features.T @ features + RIDGE * np.eye(features.shape[1], dtype=np.float32)
    projection = np.linalg.solve(gram, features.T @ vectors[touched])
    vectors[touched] -= features @ projection
    by_content = content[~touched].astype(np.float32) @ projection
    rms = np.sqrt(np.mean(by_content**2, axis=1, keepdims=True))
    vectors[~touched] = SPREAD * rms * random.standard_normal(by_content.shape, dtype=np.float32)

    model.content.copy_(torch.from_numpy(content))
    model.content_projection.copy_(torch.from_numpy(projection))
    model.item_embedding.weight.copy_(torch.from_numpy(vectors))
    log_counts = np.log(np.maximum(counts, 1)).astype(np.float32)
    model.item_bias.weight.copy_(torch.from_numpy(log_counts - log_counts[touched].mean()).unsqueeze(1))
    set_untouched_bias(model, counts)


@torch.no_grad()
def set_untouched_bias(model: TwoTower, counts: NDArray[np.int64]) -> None:
    """Items without training interactions get the median bias of the items with the fewest."""
    touched = torch.from_numpy(counts > 0).to(model.content.device)
    rarest = torch.from_numpy(counts == counts[counts > 0].min()).to(model.content.device)
    bias = model.item_bias.weight
    bias[~touched] = bias[rarest].median()
    bias[0] = 0.0
