import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recsys.errors import ReleaseDamaged
from recsys.model import two_tower
from recsys.model.exact_search import searchable_items
from recsys.model.files import CONFIG_FILE, WEIGHTS_FILE
from recsys.model.two_tower import Dropout, TwoTower, TwoTowerConfig, load_model, save_model

NUM_ITEMS = 30


@pytest.fixture(params=[1, 2], ids=["one head", "two heads"])
def model(request: pytest.FixtureRequest) -> TwoTower:
    return make_model(num_heads=request.param)


def make_model(num_heads: int = 1, num_content_features: int = 5) -> TwoTower:
    torch.manual_seed(0)
    config = TwoTowerConfig(
        num_items=NUM_ITEMS,
        num_content_features=num_content_features,
        embedding_dim=16,
        num_heads=num_heads,
        max_history=12,
    )
    model = TwoTower(config).eval()
    with torch.no_grad():
        # Larger than initially, so that a wrong dependency has a visible effect.
        model.item_embedding.weight.normal_()
        model.item_bias.weight.normal_()
        model.content.random_(0, 2)
    return model


def batch_of(*rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.int64)
    for row, items in enumerate(rows):
        padded[row, : len(items)] = torch.tensor(items, dtype=torch.int64)
    return padded, lengths


def test_shapes(model: TwoTower) -> None:
    items, lengths = batch_of([1, 2, 3], [4, 5])
    assert model.query_tower(items, lengths).shape == (2, 3, 16)
    assert model.encode(items, lengths).shape == (2, 16)
    assert model.candidate_tower().shape == (NUM_ITEMS, 16)
    assert model.encode(items, lengths).dtype == torch.float32


def test_a_later_item_does_not_change_an_earlier_position(model: TwoTower) -> None:
    items, lengths = batch_of([1, 2, 3, 4, 5])
    changed = items.clone()
    changed[0, 3] = 20
    before, after = model.query_tower(items, lengths), model.query_tower(changed, lengths)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_encode_is_the_last_position_of_the_query_tower(model: TwoTower) -> None:
    items, lengths = batch_of([1, 2, 3, 4, 5], [6, 7], [8])
    every_position = model.query_tower(items, lengths)
    torch.testing.assert_close(model.encode(items, lengths), every_position[torch.arange(3), lengths - 1])


def test_padding_changes_nothing(model: TwoTower) -> None:
    rows = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [11]]
    together = model.encode(*batch_of(*rows))
    for row, items in enumerate(rows):
        torch.testing.assert_close(model.encode(*batch_of(items))[0], together[row])
    items, lengths = batch_of(*rows)
    items[0, 3:] = 17  # padding must be ignored
    torch.testing.assert_close(model.encode(items, lengths), together)


def test_only_the_latest_items_of_a_long_history_are_used(model: TwoTower) -> None:
    long, short = list(range(1, 31)), [1, 2]
    together = model.encode(*batch_of(long, short))
    torch.testing.assert_close(together[0], model.encode(*batch_of(long[-12:]))[0])
    torch.testing.assert_close(together[1], model.encode(*batch_of(short))[0])


def test_an_empty_history_ranks_by_bias(model: TwoTower) -> None:
    alone = model.encode(torch.zeros((1, 0), dtype=torch.int64), torch.tensor([0]))
    beside = model.encode(*batch_of([], [1, 2]))[:1]
    for query in (alone, beside):
        torch.testing.assert_close((query @ model.candidate_tower().T)[0], model.item_bias.weight[1:, 0])


def test_the_dot_product_equals_the_explicit_score(model: TwoTower) -> None:
    query = model.encode(*batch_of([1, 2, 3], [4, 5]))
    candidates = model.candidate_tower()
    items = torch.arange(1, NUM_ITEMS + 1)
    content = model.content[items].float() @ model.content_projection
    vectors = model.item_embedding.weight[items] + content
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    explicit = query[:, :-1] @ vectors.T + model.item_bias.weight[items, 0]
    torch.testing.assert_close(query @ candidates.T, explicit)
    assert torch.equal(query[:, -1], model.bias_scale.expand(2))
    torch.testing.assert_close(candidates[:, -1] * model.bias_scale, model.item_bias.weight[1:, 0])


def test_item_vectors_have_length_1_for_any_table(model: TwoTower) -> None:
    with torch.no_grad():
        model.item_embedding.weight[1:] *= torch.logspace(-3, 2, NUM_ITEMS).unsqueeze(1)
    torch.testing.assert_close(model.candidate_tower()[:, :-1].norm(dim=1), torch.ones(NUM_ITEMS))


def test_an_item_without_embedding_and_content_has_no_vector(model: TwoTower) -> None:
    with torch.no_grad():
        model.item_embedding.weight[[3, 4]] = 0
        model.content[3] = 0
        model.content[4] = 1
    candidates = model.candidate_tower()
    assert searchable_items(candidates.detach().numpy()).tolist() == [index != 3 for index in range(1, NUM_ITEMS + 1)]
    assert torch.equal(candidates[2, :-1], torch.zeros(15))


def test_the_bias_scale_changes_no_score(model: TwoTower) -> None:
    batch = batch_of([1, 2, 3], [4, 5], [])
    before = model.encode(*batch) @ model.candidate_tower().T
    model.set_bias_scale(torch.tensor([[3.0, 4.0, 9.0], [6.0, 8.0, 9.0], [1.0, 0.0, 9.0]]))
    assert model.bias_scale == 5.0
    torch.testing.assert_close(model.encode(*batch) @ model.candidate_tower().T, before)


def test_the_candidate_tower_is_the_same_in_chunks(model: TwoTower, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.candidate_tower()
    monkeypatch.setattr(two_tower, "ROWS_PER_CHUNK", 7)
    assert torch.equal(model.candidate_tower(), whole)


def test_padding_is_never_a_candidate(model: TwoTower) -> None:
    with torch.no_grad():
        before = model.candidate_tower()
        model.item_embedding.weight[0] = 1e6
        model.item_bias.weight[0] = 1e6
        assert torch.equal(model.candidate_tower(), before)
        torch.testing.assert_close(before[4], model.candidate_embeddings(torch.tensor(5)))


def test_works_without_content() -> None:
    model = make_model(num_content_features=0)
    assert model.candidate_tower().shape == (NUM_ITEMS, 16)
    assert model.encode(*batch_of([1, 2])).shape == (1, 16)


def test_dropout_keeps_the_mean_and_is_off_in_eval() -> None:
    torch.manual_seed(0)
    dropout, ones = Dropout(0.25), torch.ones(999, 101)
    dropped = dropout(ones)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(dropout.eval()(ones), ones)


def test_round_trip_through_files(tmp_path: Path, model: TwoTower) -> None:
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert not loaded.training
    assert loaded.config == model.config
    items, lengths = batch_of([1, 2, 3], [4, 5])
    assert torch.equal(loaded.encode(items, lengths), model.encode(items, lengths))
    assert torch.equal(loaded.candidate_tower(), model.candidate_tower())


def test_loading_does_not_import_the_compiler(tmp_path: Path) -> None:
    """It takes more than a second, in which a ranker that starts cannot serve."""
    save_model(TwoTower(TwoTowerConfig(num_items=3, num_content_features=2)), tmp_path)
    program = f"""if True:
        import sys
        from pathlib import Path
        from recsys.model.two_tower import load_model
        load_model(Path({str(tmp_path)!r}))
        print("torch._dynamo" in sys.modules)
    """
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


def test_damaged_files_are_rejected(tmp_path: Path) -> None:
    save_model(make_model(), tmp_path)
    weights = (tmp_path / WEIGHTS_FILE).read_bytes()
    config = (tmp_path / CONFIG_FILE).read_text()
    (tmp_path / WEIGHTS_FILE).write_bytes(weights[:200])
    with pytest.raises(ReleaseDamaged, match=WEIGHTS_FILE):
        load_model(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(weights)
    (tmp_path / CONFIG_FILE).write_text(config.replace(f'"num_items": {NUM_ITEMS}', '"num_items": 31'))
    with pytest.raises(ReleaseDamaged, match=WEIGHTS_FILE):
        load_model(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("{}")
    with pytest.raises(ReleaseDamaged, match=CONFIG_FILE):
        load_model(tmp_path)
