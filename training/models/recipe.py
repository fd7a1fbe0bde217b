"""The numbers of the training recipe, in one place; every one of them is part of a model's fingerprint."""

from pydantic import BaseModel, ConfigDict

from recsys.contracts.base import MAX_HISTORY


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
    """Batches of short sequences hold more than `sequences_per_batch` of them, until they hold this many items."""
    earlier_windows: float = 0.5
    """How often a sequence longer than `max_history` shows a window from anywhere in it instead of its latest items."""
    full_softmax_items: int = 20_000
    """Up to this many candidates the loss looks at all of them, beyond it at a sample."""
    num_negatives: int = 1024

    max_epochs: int = 100
    """More are not made, even if the time budget allows for them."""
    steps_per_round: int = 300
    """Validation follows each round; a round is no longer than two epochs, unless those are a few steps only."""
    patience_rounds: int = 5
    """After this many rounds without a better validation NDCG@10 the learning rate is brought down to the end."""
    cooldown_fraction: float = 0.2
    """How long the bringing down takes, as a fraction of the steps done so far."""
    validation_users: int = 2000
    checkpoint_seconds: float = 30.0
