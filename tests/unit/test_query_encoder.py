"""The query tower on NumPy computes what the one on torch computes."""

import numpy as np
import pytest
import torch

from recsys.model.query_encoder import QueryEncoder
from recsys.model.two_tower import TwoTower, TwoTowerConfig

NUM_ITEMS, MAX_HISTORY = 50, 20


@pytest.fixture(params=[(1, 1), (2, 2), (3, 4)], ids=lambda each: f"{each[0]} layers, {each[1]} heads")
def model(request: pytest.FixtureRequest) -> TwoTower:
    num_layers, num_heads = request.param
    torch.manual_seed(0)
    config = TwoTowerConfig(
        num_items=NUM_ITEMS,
        num_content_features=4,
        embedding_dim=32,
        num_layers=num_layers,
        num_heads=num_heads,
        max_history=MAX_HISTORY,
    )
    model = TwoTower(config).eval()
    with torch.no_grad():
        model.content.random_(0, 2)
        for parameter in model.parameters():  # trained weights have norms and offsets other than 1 and 0
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.bias_scale.fill_(3.5)
    return model


@pytest.fixture
def encoder(model: TwoTower) -> QueryEncoder:
    with torch.inference_mode():
        return QueryEncoder(model, model.candidate_tower().numpy())


@pytest.mark.parametrize("length", [0, 1, 2, 7, MAX_HISTORY])
def test_it_encodes_as_torch_does(model: TwoTower, encoder: QueryEncoder, length: int) -> None:
    history = np.random.default_rng(length).integers(1, NUM_ITEMS + 1, length)
    with torch.inference_mode():
        expected = model.encode(torch.from_numpy(history)[None], torch.tensor([length]))[0].numpy()
    encoded = encoder.encode(history)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded, expected, rtol=1e-4, atol=1e-5)


def test_a_second_call_is_not_affected_by_the_first(encoder: QueryEncoder) -> None:
    history = np.array([3, 1, 4])
    first = encoder.encode(history).copy()
    encoder.encode(np.array([1, 5, 9, 2]))
    np.testing.assert_array_equal(encoder.encode(history), first)
    assert history.tolist() == [3, 1, 4]
