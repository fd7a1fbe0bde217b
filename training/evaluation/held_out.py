"""The NDCG@10 of any release on the held-out items of the prepared data, to compare releases on the same users.

A release may have another vocabulary than the data: items that it does not know are left out of its histories, and a
held-out item that it does not know is a miss, as it would be in serving.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.errors import JobError
from recsys.model.files import SECOND_STAGE_FILE, VOCABULARY_FILE
from recsys.model.release_manifest import verify_release
from recsys.model.two_tower import load_model
from recsys.model.vocabulary import Vocabulary
from training.datasets.manifest import CATALOGUE_FILE
from training.datasets.sequences import Example, History, load_sequences
from training.evaluation.metrics import ndcg_gains
from training.evaluation.ranking import Scorer, TwoTowerScorer, rank_held_out
from training.evaluation.sample import sample_users
from training.evaluation.two_stage_scorer import TwoStageScorer
from training.fingerprints import learning_data_hash
from training.models.content_features import content_features
from training.settings import JobSettings

K = 10


@dataclass(frozen=True)
class HeldOut:
    """The test items of users of the prepared data."""

    examples: list[Example]
    seen: list[History]
    """The items of each example's history that count as seen."""
    vocabulary: Vocabulary
    """Of the item indices in `examples`."""
    times: NDArray[np.int64]
    """[users]: when the test items were touched."""


def load_held_out(settings: JobSettings, data_hash: str, num_users: int) -> HeldOut:
    """The test items of at most `num_users` users, a random sample.

    Raises JobError if no data is prepared, or if it is not the data that `data_hash` identifies: a release that was
    trained on other data may have seen its test items.
    """
    sequences = load_sequences(settings.processed_dir, settings.models_dir)
    content = content_features(settings.processed_dir / CATALOGUE_FILE, sequences.vocabulary.item_ids)
    if learning_data_hash(settings.processed_dir, content) != data_hash:
        raise JobError(f"the data in {settings.processed_dir} is not the data that it was trained on")
    users = sample_users(sequences.tested_users, settings.seed, num_users)
    if not len(users):
        raise JobError(f"no user in {settings.processed_dir} has a held-out item")
    places = sequences.split.test_places[users]
    seen = [sequences.seen_before(*each) for each in zip(users, places, strict=True)]
    examples = [sequences.test(int(user)) for user in users]
    times = np.asarray(sequences.times)[sequences.offsets[users] + places]
    return HeldOut(examples, seen, sequences.vocabulary, times)


def gains_on(held_out: HeldOut, directory: Path) -> NDArray[np.float64]:
    """[users]: the NDCG@10 of the release in `directory`, ranked as it is served. Raises ReleaseDamaged."""
    manifest = verify_release(directory)
    exclude_seen = manifest.policy.exclude_seen
    own_index = _own_indices(held_out.vocabulary, Vocabulary.load(directory / VOCABULARY_FILE))
    examples = [(_translated(history, own_index), int(own_index[target])) for history, target in held_out.examples]
    known = [place for place, (history, target) in enumerate(examples) if len(history) and target]
    ranks = np.full(len(examples), np.inf)
    if known:
        scorer = release_scorer(directory, exclude_seen=exclude_seen)
        seen = [_translated(held_out.seen[place], own_index) for place in known]
        ranks[known] = rank_held_out(scorer, [examples[place] for place in known], exclude_seen, seen=seen).ranks
    return ndcg_gains(ranks, K)


def release_scorer(directory: Path, *, exclude_seen: bool) -> Scorer:
    """Scores items as the release in `directory` does: with its second stage, if it has one."""
    model = load_model(directory)
    if (directory / SECOND_STAGE_FILE).exists():
        return TwoStageScorer(model, directory, exclude_seen=exclude_seen)
    return TwoTowerScorer(model)


def _own_indices(vocabulary: Vocabulary, own: Vocabulary) -> NDArray[np.int32]:
    """[len(vocabulary) + 1]: the release's item index for each index of `vocabulary`; 0 for unknown items."""
    found = [own.index_of(item_id) or 0 for item_id in vocabulary.item_ids]
    return np.array([0, *found], dtype=np.int32)


def _translated(history: History, own_index: NDArray[np.int32]) -> History:
    """The known items of a history by the release's indices, without consecutive repeats, as in serving."""
    found = own_index[history]
    known = found[found > 0]
    steps: History = known[np.diff(known, prepend=0) != 0]
    return steps
