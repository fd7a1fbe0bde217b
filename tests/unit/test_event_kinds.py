"""What kinds of events mean: the file, the prepared data, and the histories that a model reads."""

from pathlib import Path

import numpy as np
import pytest

from recsys.contracts.event_kinds import EventKinds, KindMeaning
from recsys.errors import DataError
from tests.unit.prepare_case import folder_of, settings
from training.datasets.manifest import Manifest
from training.datasets.sequences import Sequences, TrainBatches, load_sequences
from training.evaluation.baselines import PopularityScorer
from training.evaluation.ranking import rank_by_shared_scores, rank_held_out
from training.evaluation.windows import window_of_test
from training.jobs.prepare import prepare
from training.settings import JobSettings

MEANINGS = """
[view]
seen = false
[purchase]
weight = 3
[impression]
weight = 0
seen = false
[dislike]
negative = true
"""
LOG = """user_id,item_id,timestamp,event
ann,a,1600000000,view
ann,b,1600000100,impression
ann,a,1600000200,purchase
ann,b,1600000300,view
ann,c,1600000400,dislike
ann,b,1600000500,view
ann,d,1600000600,other
ann,b,1600000700,purchase
bob,c,1600000000,dislike
"""


def with_kinds(tmp_path: Path, kinds: str, log: str = LOG) -> JobSettings:
    chosen = settings(tmp_path, "csv", folder_of(tmp_path, interactions__csv=log))
    chosen.kinds_file.parent.mkdir(parents=True, exist_ok=True)
    chosen.kinds_file.write_text(kinds)
    return chosen


def sequences_of(chosen: JobSettings) -> Sequences:
    prepare(chosen)
    return load_sequences(chosen.processed_dir, chosen.models_dir)


def test_the_meanings_are_part_of_the_prepared_data(tmp_path: Path) -> None:
    chosen = with_kinds(tmp_path, MEANINGS)
    prepare(chosen)
    kinds = Manifest.read(chosen.processed_dir).event_kinds
    assert kinds.of("view") == KindMeaning(seen=False)
    assert kinds.of("purchase").weight == 3
    assert not kinds.of("dislike").in_history
    assert kinds.of("anything else") == KindMeaning()
    assert "up to date" in prepare(chosen)
    chosen.kinds_file.write_text(MEANINGS.replace("3", "4"))
    assert "up to date" not in prepare(chosen)


def test_without_a_file_every_kind_has_the_default(tmp_path: Path) -> None:
    chosen = settings(tmp_path, "csv", folder_of(tmp_path, interactions__csv=LOG))
    sequences = sequences_of(chosen)
    assert Manifest.read(chosen.processed_dir).event_kinds == EventKinds()
    assert sequences.num_users == 2
    assert sequences.seen.all()
    assert (np.asarray(sequences.weights) == 1).all()


def test_what_is_no_step_is_in_no_history_and_steps_have_weights(tmp_path: Path) -> None:
    """`ann` has a, views b with the dislike of c in between, has d, and comes back to b; `bob` has no history."""
    sequences = sequences_of(with_kinds(tmp_path, MEANINGS))
    assert sequences.num_users == 1
    assert [sequences.vocabulary.item_id(int(item)) for item in sequences.items] == ["a", "b", "d", "b"]
    assert list(sequences.weights) == [3, 1, 1, 3]
    assert list(sequences.seen) == [True, False, True, True]
    assert len(sequences.vocabulary) == 4  # all items of the log can be recommended


def test_an_item_that_was_only_viewed_may_be_recommended_again(tmp_path: Path) -> None:
    chosen = with_kinds(tmp_path, MEANINGS)
    for kinds, rank in ((MEANINGS, 1.0), (MEANINGS.replace("seen = false", ""), np.inf)):
        chosen.kinds_file.write_text(kinds)
        sequences = sequences_of(chosen)
        window = window_of_test(sequences, seed=1)
        scorer = PopularityScorer(np.array([0, *(item == "b" for item in sequences.vocabulary.item_ids)]))
        assert rank_held_out(scorer, window.examples, seen=window.seen).ranks == [rank]
        assert rank_by_shared_scores(scorer.shared, window.examples, seen=window.seen).ranks == [rank]


def test_batches_have_the_weights_of_the_next_items(tmp_path: Path) -> None:
    rows = "".join(
        f"cy,{item},{1600000000 + at},{kind}\n"
        for at, (item, kind) in enumerate(
            [("a", "view"), ("b", "purchase"), ("c", "view"), ("d", "view"), ("e", "view")]
        )
    )
    sequences = sequences_of(with_kinds(tmp_path, MEANINGS, "user_id,item_id,timestamp,event\n" + rows))
    batches = TrainBatches(sequences, 10, 4, 1, 0.0, seed=1)
    items, lengths, targets, weights = batches.load(batches.of_epoch(0)[0])
    assert lengths.tolist() == [2]
    assert weights.tolist() == [[3.0, 1.0]]
    assert targets.shape == items.shape == weights.shape


@pytest.mark.parametrize(
    ("kinds", "problem"),
    [
        ("[view]\nwieght = 2", "view.wieght is not known; expected weight, negative, seen"),
        ("[view]\nweight = -1", "view.weight is -1: Input should be greater than or equal to 0"),
        ("[view]\nweight = true", "view.weight is True"),
        ("[view]\nseen = 'no'", "view.seen is 'no'"),
        ("[dislike]\nnegative = true\nweight = 2", "a negative kind has no weight and no seen"),
        ("view = 1", "view is 1"),
        ("[view", "this is not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, kinds: str, problem: str) -> None:
    with pytest.raises(DataError) as error:
        prepare(with_kinds(tmp_path, kinds))
    assert problem in str(error.value)
    assert "kinds/csv.toml" in str(error.value)


def test_a_meaning_without_events_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(with_kinds(tmp_path, MEANINGS + "[purhcase]\nweight = 2\n"))
    assert "warning: 1 kinds that have a meaning occur in no event" in capsys.readouterr().out
