"""Trains nothing, but registers and promotes releases that differ: each has the weights of the first one, and noise."""

import asyncio
import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench.stack import Jobs
from recsys.model.files import TRAINING_FILE
from recsys.model.release_manifest import RELEASE_FILE
from recsys.model.two_tower import load_model, save_model
from training.model_directory import final_fit_of, latest_model, read_training, set_latest_model

NOISE = 1e-3
"""Standard deviation of the noise, relative to that of the weights."""
JOBS: dict[str, dict[str, str]] = {"register": {}, "promote": {"FORCE": "1"}, "prune": {}}
"""What a user runs after training, with variables. `promote` builds the index and stores the lists of active users.

FORCE leaves out the comparison with the champion, which takes half a minute in the job and uses no service.
"""


@dataclass
class Promotions:
    jobs: Jobs
    models_dir: Path
    first: Path = field(init=False)
    """The model of the release that serves at the start."""
    seconds: list[float] = field(default_factory=list)
    """How long the jobs of each promotion took."""
    running: bool = False

    def __post_init__(self) -> None:
        self.first = latest_model(self.models_dir)

    async def run(self, count: int, duration: float) -> None:
        """Promote `count` releases at even intervals of `duration` seconds, or as soon as the previous one is done."""
        started = time.monotonic()
        for number in range(1, count + 1):
            due = started + duration * (number - 0.5) / count
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._promote(number)

    async def _promote(self, number: int) -> None:
        self.running, started = True, time.monotonic()
        await asyncio.to_thread(write_variant, self.first, number)
        for name, variables in JOBS.items():
            await self.jobs.run(name, **variables)
        self.seconds.append(time.monotonic() - started)
        self.running = False


def write_variant(first: Path, number: int) -> Path:
    """Write the `number`th variant of a model, as the latest one. The previous variant is deleted."""
    directory = first.with_name(f"{first.name}-{number}")
    shutil.copytree(first, directory, ignore=shutil.ignore_patterns(RELEASE_FILE))
    model = load_model(final_fit_of(first))
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        weights = model.item_embedding.weight
        weights.add_(torch.randn(weights.shape, generator=generator) * weights.std() * NOISE)
    save_model(model, final_fit_of(directory))
    training = {**read_training(first), "fingerprint": directory.name}
    (directory / TRAINING_FILE).write_text(json.dumps(training), encoding="utf-8")
    set_latest_model(directory)
    shutil.rmtree(first.with_name(f"{first.name}-{number - 1}"), ignore_errors=True)
    return directory
