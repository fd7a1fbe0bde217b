"""Next-item cross-entropy: over all candidates without storing their logits, and over a corrected sample of them."""

from typing import Any, cast

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2_000_000
"""Logits computed at a time: small enough for the caches, large enough for an efficient matrix product."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Softmax cross-entropy of queries @ candidates.T that computes its gradients in the forward pass.

    After Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models": the logits [positions, candidates]
    are by far the largest tensor of a step, so they are computed in chunks and never stored.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        positions, items = len(queries), len(candidates)
        query_gradient = torch.empty_like(queries)
        candidate_gradient = torch.zeros(candidates.shape, dtype=torch.float32, device=candidates.device)
        loss = torch.zeros((), dtype=torch.float32, device=queries.device)
        step = max(1, CHUNK_ELEMENTS // items)
        for start in range(0, positions, step):
            query, target = queries[start : start + step], targets[start : start + step].unsqueeze(1)
            weight = weights[start : start + step].unsqueeze(1)
            probabilities = torch.softmax(query @ candidates.T, dim=-1)
            of_target = probabilities.gather(1, target)
            loss -= (of_target.float().clamp(min=torch.finfo(torch.float32).tiny).log() * weight).sum()
            probabilities.scatter_(1, target, of_target - 1)
            probabilities *= weight.to(probabilities.dtype)
            torch.mm(probabilities, candidates, out=query_gradient[start : start + step])
            candidate_gradient += probabilities.T @ query
        ctx.save_for_backward(query_gradient, candidate_gradient.to(candidates.dtype))
        total = ctx.total = float(weights.sum())
        return loss / total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        scale = gradients[0] / ctx.total
        query_gradient, candidate_gradient = ctx.saved_tensors
        return query_gradient * scale, candidate_gradient * scale, None, None


def full_softmax_loss(queries: Tensor, candidates: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """queries [positions, dim], candidates [items, dim], targets [positions] as rows of candidates, weights [positions]
    -> weighted mean loss."""
    return cast(Tensor, _LinearCrossEntropy.apply(queries, candidates, targets, weights))  # type: ignore[no-untyped-call]


def sampled_softmax_loss(
    queries: Tensor,
    target_embeddings: Tensor,
    targets: Tensor,
    negative_embeddings: Tensor,
    negatives: Tensor,
    negative_log_probability: Tensor,
    weights: Tensor,
) -> Tensor:
    """Mean loss, by weights [positions], with negatives [samples], drawn with replacement and shared by all positions.

    exp(target) + mean over the samples of exp(logit) / probability estimates the full denominator without bias, so the
    negatives' logits are lowered by log(samples * probability) and the target's is not (Bengio and Senecal 2008,
    section 3). A sample that is the target itself is left out, as it is counted already.
    """
    of_target = (queries * target_embeddings).sum(-1, keepdim=True).float()
    logits = (queries @ negative_embeddings.T).float()
    logits = logits - negative_log_probability - torch.log(torch.tensor(float(len(negatives))))
    logits = logits.masked_fill(negatives == targets.unsqueeze(1), -torch.inf)
    losses = torch.logsumexp(torch.cat([of_target, logits], dim=1), dim=1) - of_target.squeeze(1)
    return (losses * weights).sum() / weights.sum()
