"""The whole log as the part to learn from, which leaves nothing to measure on."""

from dataclasses import replace

import numpy as np

from recsys.model.vocabulary import Vocabulary
from training.datasets.sequences import Sequences
from training.datasets.splits import NOWHERE, Split


def whole_log(sequences: Sequences) -> Sequences:
    """Everything is for training and nothing is held out. Items are numbered anew, by their counts in the whole log."""
    counts = np.bincount(sequences.items, minlength=sequences.num_items + 1)[1:]
    order = np.lexsort((np.arange(len(counts)), -counts))
    new_index = np.zeros(len(counts) + 1, dtype=np.int32)
    new_index[order + 1] = np.arange(1, len(counts) + 1)
    item_ids = sequences.vocabulary.item_ids
    lengths = np.diff(sequences.offsets)
    nowhere = np.full_like(lengths, NOWHERE)
    return replace(
        sequences,
        items=new_index[sequences.items],
        vocabulary=Vocabulary(item_ids[place] for place in order),
        split=Split(lengths, validation_places=nowhere, test_places=nowhere, newcomer_places=nowhere),
    )
