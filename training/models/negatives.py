"""Negatives for the sampled softmax: items seen in training, sampled by popularity, with their probabilities."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

POWER = 0.75
"""Items are drawn in proportion to count ** POWER (Mikolov et al. 2013, section 2.2); the loss corrects for it."""


class NegativeSampler:
    """Samples with replacement from the items 1..len(counts), whose counts are all above 0."""

    def __init__(self, counts: NDArray[np.int64], device: torch.device) -> None:
        probability = counts.astype(np.float64) ** POWER
        probability /= probability.sum()
        self._cumulative = torch.from_numpy(np.cumsum(probability)).to(device)
        self._log_probability = torch.from_numpy(np.log(probability)).float().to(device)

    def draw(self, samples: int) -> tuple[Tensor, Tensor]:
        """-> item indices [samples] and the logarithm of each one's probability [samples]."""
        uniform = torch.rand(samples, dtype=torch.float64, device=self._cumulative.device)
        rows = torch.searchsorted(self._cumulative, uniform).clamp(max=len(self._cumulative) - 1)
        return rows + 1, self._log_probability[rows]
