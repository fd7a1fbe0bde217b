"""The ranker's composition root, and the watch that keeps it on the champion."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog
import torch

from ranker_service.settings import RankerSettings
from recsys.adapters.torch_ranker import TorchRanker
from recsys.errors import ReleaseError, UpstreamError
from recsys.model.local_releases import LocalReleases
from recsys.model.registry import ModelRegistry

log = structlog.get_logger()


class ChampionWatch:
    """Loads whatever release is the champion, beside the one that serves, and swaps when it is warm.

    What goes wrong leaves the old release serving and stands in `problem` until it is right again.
    """

    def __init__(self, settings: RankerSettings, ranker: TorchRanker) -> None:
        self._ranker = ranker
        self._releases = LocalReleases(settings.releases_dir, ModelRegistry(settings.mlflow_tracking_uri))
        self._poll_seconds = settings.poll_seconds
        # One thread, so that loading cannot take more than one core from the requests.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="releases")
        self.serving: int | None = None
        self.problem: str | None = "no release was looked for yet"

    async def run(self) -> None:
        while True:
            try:
                await self._look()
                self.problem = None
            except (UpstreamError, ReleaseError) as error:
                if str(error) != self.problem:
                    log.warning("champion_not_loaded", problem=str(error), serving=self.serving)
                self.problem = str(error)
            await asyncio.sleep(self._poll_seconds)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            version = await loop.run_in_executor(self._thread, self._releases.champion)
        except UpstreamError:
            if self.serving is None and (last := self._releases.last_champion()) is not None:
                await self._serve(last)
            raise
        if version is not None and version != self.serving:
            await self._serve(version)

    async def _serve(self, version: int) -> None:
        loop = asyncio.get_running_loop()
        release = await loop.run_in_executor(self._thread, self._releases.load, version)
        self._ranker.serve(release)
        self._releases.remember_champion(version)
        log.info("release_serving", release=version, replaced=self.serving, items=len(release.vocabulary))
        self.serving = version


def use_one_thread() -> None:
    """One request's matrices are small: a second thread costs more in waiting than it computes."""
    torch.set_num_threads(1)
