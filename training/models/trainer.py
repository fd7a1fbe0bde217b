"""The training loop: steps within a time budget, validation after every round, a checkpoint every half minute.

Without users to validate on, the weights of the last step are kept.
"""

import math
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter
from tqdm import tqdm

from recsys.errors import JobError
from recsys.model.two_tower import TwoTower
from training.datasets.sequences import History, Sequences, Spans, TrainBatches
from training.evaluation.metrics import hr_at_k, mrr_at_k, ndcg_at_k
from training.evaluation.ranking import TwoTowerScorer, rank_held_out
from training.evaluation.sample import sample_users
from training.models.checkpoint import Progress, load_checkpoint, save_checkpoint
from training.models.histories import encode_histories
from training.models.item_table import set_untouched_bias
from training.models.losses import full_softmax_loss, sampled_softmax_loss
from training.models.negatives import NegativeSampler
from training.models.recipe import Recipe

BETAS = (0.9, 0.98)
MEASURED_QUERIES = 500
"""The number of histories from which the bias scale is measured."""


class Trainer:
    """Trains `model` in place, and restores the weights with the best validation at the end."""

    def __init__(
        self,
        model: TwoTower,
        sequences: Sequences,
        counts: NDArray[np.int64],
        recipe: Recipe,
        *,
        seed: int,
        budget_seconds: float,
        checkpoint_directory: Path,
        exclude_seen: bool = True,
    ) -> None:
        self.exclude_seen = exclude_seen
        self.model, self.recipe, self.counts = model, recipe, counts
        self.device = model.content.device
        self.dtype = low_precision(self.device.type)
        self.budget_seconds = budget_seconds
        self.checkpoint_directory = checkpoint_directory
        self.batches = TrainBatches(
            sequences,
            recipe.max_history,
            recipe.sequences_per_batch,
            recipe.min_items_per_batch,
            recipe.earlier_windows,
            seed,
        )
        # The number of batches differs slightly between epochs; the first one is the estimate for all.
        self.batches_per_epoch = len(self.batches.of_epoch(0))
        self.steps_per_round = min(
            recipe.steps_per_round, max(2 * self.batches_per_epoch, recipe.steps_per_round // 10)
        )
        validated = sample_users(sequences.validated_users, seed, recipe.validation_users)
        self.validation_examples = [sequences.validation(int(user)) for user in validated]
        places = sequences.split.validation_places[validated]
        self.validation_seen = [sequences.seen_before(*each) for each in zip(validated, places, strict=True)]
        histories = [history for history, _ in self.validation_examples[:MEASURED_QUERIES]]
        self.measured_histories = histories or _training_histories(sequences, seed)

        # Items are in descending order of training count, so items seen in training are 1..num_touched. The others are
        # no candidates of the loss, because every step would push them away from the position that their content gives.
        self.num_touched = int(np.count_nonzero(counts))
        self.sampled = self.num_touched > recipe.full_softmax_items
        self.negatives = NegativeSampler(counts[1 : self.num_touched + 1], self.device)
        self.optimizers = _optimizers(model, recipe, sparse=self.sampled)
        self.progress = Progress()
        self.best = self._copy_of_weights()

    def resume(self) -> bool:
        """Restore the last checkpoint; False if there is none."""
        loaded = load_checkpoint(self.checkpoint_directory)
        if loaded is None:
            return False
        self.progress, state = loaded
        self.model.load_state_dict(state["model"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.best = state["best"]
        return True

    def run(self) -> Progress:
        """Train until the budget is spent or validation stops improving; returns the progress."""
        progress, started = self.progress, time.monotonic() - self.progress.seconds
        saved_at = progress.seconds
        batches = self.batches.of_epoch(progress.epoch)
        self.model.train()
        with _bar(self.budget_seconds, progress.seconds) as bar:
            while not self._finished():
                loss = self._step(batches[progress.batch])
                progress.batch += 1
                if progress.batch == len(batches):
                    progress.epoch, progress.batch = progress.epoch + 1, 0
                    batches = self.batches.of_epoch(progress.epoch)
                progress.round_loss += loss
                progress.round_steps += 1
                progress.seconds = time.monotonic() - started
                if progress.round_steps >= self.steps_per_round or self._finished():
                    self._end_round()
                    progress.seconds = time.monotonic() - started
                if progress.seconds - saved_at >= self.recipe.checkpoint_seconds:
                    self._save()
                    saved_at = progress.seconds
                self._show(bar, loss)
        if self.validation_examples:
            self.model.load_state_dict(self.best)
        self.model.eval()
        self._fit_bias_scale()
        return progress

    def _finished(self) -> bool:
        progress = self.progress
        cooled = (
            progress.cooldown_from is not None and progress.step >= progress.cooldown_from + progress.cooldown_steps
        )
        return cooled or self._spent() >= 1.0

    def _spent(self) -> float:
        """The share of the budget that is spent, by time or by epochs, whichever is larger.

        If the epochs run out first, nothing depends on the clock, and a seed gives the same weights every time.
        """
        return max(self.progress.seconds / self.budget_seconds, self._epochs() / self.recipe.max_epochs)

    def _epochs(self) -> float:
        return self.progress.epoch + self.progress.batch / self.batches_per_epoch

    def _step(self, spans: Spans) -> float:
        rate = self.recipe.learning_rate * self._learning_rate_factor()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
        loaded = self.batches.load(spans)
        items, lengths, targets, weights = (torch.from_numpy(array).to(self.device) for array in loaded)
        real = torch.arange(items.shape[1], device=self.device) < lengths.unsqueeze(1)
        with self._autocast():
            queries = self.model.query_tower(items, lengths)[real]
        loss = self._loss(queries, targets[real], weights[real])
        value = loss.item()
        if not math.isfinite(value):
            raise JobError(f"the loss is {value} at step {self.progress.step}; lower the learning rate")
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(self.model.parameters(), self.recipe.max_gradient_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.progress.step += 1
        self.progress.items += int(lengths.sum())
        return value

    def _loss(self, queries: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """queries [positions, dim], targets [positions] as item indices, weights [positions] -> weighted mean loss."""
        dtype = self.dtype or torch.float32
        if not self.sampled:
            rows = torch.arange(1, self.num_touched + 1, device=self.device)
            candidates = self.model.candidate_embeddings(rows).to(dtype)
            return full_softmax_loss(queries.to(dtype), candidates, targets - 1, weights)
        negatives, log_probability = self.negatives.draw(self.recipe.num_negatives)
        distinct, place = torch.unique(targets, return_inverse=True)
        return sampled_softmax_loss(
            queries.to(dtype),
            self.model.candidate_embeddings(distinct).to(dtype)[place],
            targets,
            self.model.candidate_embeddings(negatives).to(dtype),
            negatives,
            log_probability,
            weights,
        )

    def _learning_rate_factor(self) -> float:
        """Linear warm-up, then a cosine over the budget; linear decay once validation has stopped improving."""
        progress, floor = self.progress, self.recipe.final_learning_rate_fraction
        if progress.cooldown_from is not None:
            done = (progress.step - progress.cooldown_from) / progress.cooldown_steps
            return progress.cooldown_factor * max(floor, 1.0 - done)
        spent = min(1.0, self._spent())
        warm = min(1.0, (progress.step + 1) / self.recipe.warmup_steps)
        return warm * (floor + (1.0 - floor) * (1.0 + math.cos(math.pi * spent)) / 2.0)

    def _end_round(self) -> None:
        progress = self.progress
        set_untouched_bias(self.model, self.counts)
        record: dict[str, float] = {
            "round": len(progress.history),
            "step": progress.step,
            "epoch": round(self._epochs(), 3),
            "seconds": round(progress.seconds, 1),
            "learning_rate": self.recipe.learning_rate * self._learning_rate_factor(),
            "train_loss": progress.round_loss / progress.round_steps,
        }
        progress.round_loss, progress.round_steps = 0.0, 0
        if self.validation_examples:
            record |= self._validate()
        progress.history.append(record)
        if self.validation_examples:
            self._select(record["validation_ndcg_at_10"])

    def _validate(self) -> dict[str, float]:
        scorer = TwoTowerScorer(self.model, encode_in=self.dtype)
        ranks = rank_held_out(scorer, self.validation_examples, self.exclude_seen, seen=self.validation_seen).ranks
        self.model.train()
        return {
            "validation_ndcg_at_10": ndcg_at_k(ranks, 10),
            "validation_hr_at_10": hr_at_k(ranks, 10),
            "validation_hr_at_200": hr_at_k(ranks, 200),
            "validation_mrr_at_10": mrr_at_k(ranks, 10),
        }

    def _select(self, ndcg: float) -> None:
        """Keep the weights of the last round if they are the best so far; begin the cooldown when it is time."""
        progress = self.progress
        if ndcg > progress.best_ndcg:
            progress.best_ndcg, progress.best_round = ndcg, len(progress.history) - 1
            self.best = self._copy_of_weights()
        elif progress.cooldown_from is None and self._has_stopped_improving():
            # A lower learning rate often improves validation again, so training continues from the best weights with a
            # final decay instead of stopping at once.
            progress.cooldown_factor = self._learning_rate_factor()
            progress.cooldown_from = progress.step
            progress.cooldown_steps = max(1, int(self.recipe.cooldown_fraction * progress.step))
            self.model.load_state_dict(self.best)

    def _fit_bias_scale(self) -> None:
        """Rescale the bias dimension. Scores do not change, but an index finds the items more easily."""
        with torch.no_grad():
            self.model.set_bias_scale(encode_histories(self.model, self.measured_histories))

    def _has_stopped_improving(self) -> bool:
        """No better round for `patience_rounds`, nor within the last epoch."""
        history, best = self.progress.history, self.progress.history[self.progress.best_round]
        return (
            len(history) - 1 - self.progress.best_round >= self.recipe.patience_rounds
            and history[-1]["epoch"] - best["epoch"] >= 1.0
        )

    def _copy_of_weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _save(self) -> None:
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "best": self.best,
        }
        save_checkpoint(self.checkpoint_directory, self.progress, state)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None)

    def _show(self, bar: "tqdm[Any]", loss: float) -> None:
        progress = self.progress
        bar.n = min(progress.seconds, self.budget_seconds)
        rate = progress.items / max(progress.seconds, 1e-9) / 1000
        bar.set_postfix_str(
            f"epoch {progress.epoch}, {rate:.0f}k items/s, loss {loss:.3f}, NDCG@10 {max(progress.best_ndcg, 0):.4f}",
            refresh=False,
        )
        bar.update(0)


def _training_histories(sequences: Sequences, seed: int) -> list[History]:
    users = sample_users(np.flatnonzero(sequences.train_lengths), seed, MEASURED_QUERIES)
    return [sequences.train(int(user)) for user in users]


def _optimizers(model: TwoTower, recipe: Recipe, *, sparse: bool) -> list[torch.optim.Optimizer]:
    """AdamW for everything; with `sparse` the item table has its own, which touches the rows of a batch only.

    With gradients and moments of all rows the cost of a step would grow with the catalogue.
    """
    table = [model.item_embedding, model.item_bias] if sparse else []
    for embedding in table:
        embedding.sparse = True
    rows = [embedding.weight for embedding in table]
    dense = [parameter for parameter in model.parameters() if all(parameter is not weight for weight in rows)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(dense, lr=recipe.learning_rate, betas=BETAS, weight_decay=recipe.weight_decay, fused=True)
    ]
    if sparse:
        optimizers.append(torch.optim.SparseAdam(rows, lr=recipe.learning_rate, betas=BETAS))
    return optimizers


def low_precision(device: str) -> torch.dtype | None:
    """bfloat16 if the hardware multiplies it faster than float32, else None."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else None


def clip_gradients(parameters: Iterable[Parameter], max_norm: float) -> None:
    """Scale all gradients, dense and sparse, so that their joint Euclidean norm is at most `max_norm`."""
    values: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        else:
            values.append(parameter.grad)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value) for value in values]))
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(scale)


def _bar(budget_seconds: float, spent_seconds: float) -> "tqdm[Any]":
    return tqdm(
        total=round(budget_seconds, 1),
        initial=min(spent_seconds, budget_seconds),
        bar_format="training {percentage:3.0f}%|{bar:20}| {n:.0f} of at most {total:.0f} s, {remaining} left{postfix}",
        # A log file needs fewer lines than a terminal.
        mininterval=0.5 if sys.stderr.isatty() else 15.0,
    )
