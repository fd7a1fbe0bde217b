"""The hyperparameters of the two towers. All of them are part of the towers' fingerprint."""

import math

from pydantic import BaseModel, ConfigDict

from recsys.contracts.base import MAX_HISTORY

WARM_SHARE = 1 / 3
"""The time budget and the epochs of a training that starts from a release, as a share of those of one from nothing."""
FINAL_SHARE = 1 / 6
"""The time budget and the epochs of the final fit, as a share of those of the validation fit."""
FINAL_LEARNING_RATE = 0.3
"""Its learning rate, as a share: so few epochs would not bring back what a high one undoes."""
MIN_FINAL_EPOCHS = 2


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int = 128
    num_layers: int = 2
    num_heads: int = 1
    feed_forward_factor: int = 2
    dropout: float = 0.25
    max_history: int = MAX_HISTORY

    learning_rate: float = 1.5e-3
    final_learning_rate_fraction: float = 0.02
    warmup_steps: int = 100
    weight_decay: float = 0.01
    max_gradient_norm: float = 5.0

    sequences_per_batch: int = 32
    min_items_per_batch: int = 2048
    """Batches of short sequences hold more than `sequences_per_batch` sequences, to reach this many items."""
    earlier_windows: float = 0.5
    """How often a sequence longer than `max_history` is cut to a random window instead of its latest items."""
    full_softmax_items: int = 20_000
    """Up to this many items the loss is a full softmax, above it a sampled one."""
    num_negatives: int = 1024

    max_epochs: int = 100
    """Training stops after this many epochs, even if time is left."""
    steps_per_round: int = 300
    """Validation follows each round. A round has at most two epochs, unless these are only a few steps."""
    patience_rounds: int = 5
    """The cooldown starts after this many rounds without a better validation NDCG@10."""
    cooldown_fraction: float = 0.2
    """The length of the final learning rate decay, as a fraction of the steps so far."""
    validation_users: int = 2000
    checkpoint_seconds: float = 30.0

    def warm(self) -> "Recipe":
        """The recipe of a training that starts from a release.

        The learning rate stays: with a lower one the towers do not get away from what they have learned.
        """
        return self.model_copy(update={"max_epochs": math.ceil(self.max_epochs * WARM_SHARE)})

    def final(self, epochs: float) -> "Recipe":
        """This recipe, for the final fit of towers that were trained for so many epochs.

        Nothing is held out, so nothing says when to stop: the epochs are fixed.
        """
        return self.model_copy(
            update={
                "learning_rate": self.learning_rate * FINAL_LEARNING_RATE,
                "max_epochs": max(MIN_FINAL_EPOCHS, math.ceil(epochs * FINAL_SHARE)),
            }
        )
