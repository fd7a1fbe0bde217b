import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from training.models import losses
from training.models.losses import full_softmax_loss, sampled_softmax_loss
from training.models.trainer import clip_gradients


def test_full_softmax_is_cross_entropy_with_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 7 * 20)  # 7 positions at a time: several chunks and a remainder
    torch.manual_seed(0)
    queries, candidates = torch.randn(50, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    targets, weights = torch.randint(0, 20, (50,)), torch.rand(50)
    loss = full_softmax_loss(queries, candidates, targets, weights)
    each = cross_entropy(queries @ candidates.T, targets, reduction="none")
    expected = (each * weights).sum() / weights.sum()
    torch.testing.assert_close(loss, expected)
    ours = torch.autograd.grad(3 * loss, (queries, candidates))
    theirs = torch.autograd.grad(3 * expected, (queries, candidates))
    torch.testing.assert_close(ours, theirs)


def test_sampled_softmax_with_its_correction_is_the_full_one_in_expectation() -> None:
    torch.manual_seed(0)
    items, positions, samples = 12, 6, 40_000
    queries, table = torch.randn(positions, 4), torch.randn(items, 4)
    targets = torch.randint(0, items, (positions,))
    weights = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0, 2.0])
    # Far from uniform, as popularity is: without the correction the result would be far off.
    probability = torch.softmax(torch.randn(items), dim=0)

    def sampled(log_probability: torch.Tensor) -> float:
        losses_of_draws = []
        for _ in range(20):
            negatives = torch.multinomial(probability, samples, replacement=True)
            losses_of_draws.append(
                sampled_softmax_loss(
                    queries, table[targets], targets, table[negatives], negatives, log_probability[negatives], weights
                ).item()
            )
        return sum(losses_of_draws) / len(losses_of_draws)

    each = cross_entropy(queries @ table.T, targets, reduction="none")
    full = float((each * weights).sum() / weights.sum())
    assert math.isclose(sampled(probability.log()), full, abs_tol=0.02)
    assert not math.isclose(sampled(torch.full((items,), -math.log(items))), full, abs_tol=0.1)


def test_clipping_measures_dense_and_sparse_gradients_together() -> None:
    dense = torch.nn.Parameter(torch.zeros(2))
    dense.grad = torch.tensor([3.0, 0.0])
    table = torch.nn.Parameter(torch.zeros(5, 1))
    # Row 1 stands twice; its gradient is the sum, 4, so the joint norm is 5.
    twice = torch.tensor([[1, 1]])
    table.grad = torch.sparse_coo_tensor(twice, torch.tensor([[1.0], [3.0]]), (5, 1), check_invariants=True)
    untouched = torch.nn.Parameter(torch.zeros(1))
    clip_gradients([dense, table, untouched], max_norm=1.0)
    torch.testing.assert_close(dense.grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(table.grad.to_dense()[1], torch.tensor([0.8]))
    clip_gradients([dense, table], max_norm=5.0)
    torch.testing.assert_close(dense.grad, torch.tensor([0.6, 0.0]))
