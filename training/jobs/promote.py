"""Make a version the champion: `python -m training.jobs.promote`.

Its collection is built and verified first, then the ranker loads it, and the alias moves last. If the job is killed at
any step, the current champion keeps serving.
"""

import time

import httpx

from recsys.contracts.retrieval import ServingReleases
from recsys.errors import JobError
from recsys.model.registry import CHAMPION, NEXT, PREVIOUS, ModelRegistry
from training.indexing.build import index_version, newest_version
from training.job import run_job
from training.settings import JobSettings, RegistrySettings, ReleaseSettings

GATE = "ndcg_at_10"
WARM_SECONDS = 120
POLL_SECONDS = 0.25


def promote(settings: JobSettings) -> str:
    """The job. Raises JobError if the version is worse than the champion, or if the ranker cannot load it."""
    registry, wanted = ModelRegistry(RegistrySettings().mlflow_tracking_uri), ReleaseSettings()
    version = wanted.version or newest_version(registry, settings)
    champion = registry.aliases().get(CHAMPION)
    if version == champion:
        return f"version {version} is already the champion"
    if champion is not None:
        _require_no_worse(registry, version, champion, wanted)
    print(f"promote: {index_version(registry, version, settings)}", flush=True)
    registry.set_alias(NEXT, version)
    try:
        warmed = _wait_until_warm(wanted.ranker_url, version)
        if champion is not None:
            registry.set_alias(PREVIOUS, champion)
        registry.set_alias(CHAMPION, version)
    finally:
        registry.delete_alias(NEXT)
    before = f", version {champion} stays warm" if champion is not None else ""
    return f"version {version} is the champion{before}; {warmed}"


def _require_no_worse(registry: ModelRegistry, version: int, champion: int, settings: ReleaseSettings) -> None:
    metrics = {each.version: float(each.tags.get(GATE, 0)) for each in registry.versions()}
    if version not in metrics:
        raise JobError(f"version {version} does not exist; the versions are {sorted(metrics)}")
    least = metrics[champion] * (1 - settings.promote_margin)
    if metrics[version] < least and not settings.force:
        raise JobError(
            f"version {version} has {GATE} {metrics[version]:.4f} and the champion, version {champion}, "
            f"{metrics[champion]:.4f}: at least {least:.4f} is required; FORCE=1 promotes it anyway"
        )


def _wait_until_warm(ranker_url: str | None, version: int) -> str:
    """Wait until the ranker has loaded the version; returns a clause about it. Raises JobError if loading fails."""
    no_ranker = "no ranker could be reached"
    if ranker_url is None:
        return no_ranker
    deadline = time.monotonic() + WARM_SECONDS
    with httpx.Client(base_url=ranker_url, timeout=5) as client:
        while True:
            try:
                response = client.get("/v1/releases")
            except httpx.HTTPError:
                return no_ranker
            if not response.is_success:
                return no_ranker  # a ranker without a champion loads this version after its promotion
            serving = ServingReleases.model_validate_json(response.content)
            if version in serving.loaded:
                return "the ranker has it loaded"
            failed = [problem for problem in serving.problems if problem.startswith(f"release {version}:")]
            if failed or time.monotonic() > deadline:
                reason = "; ".join(failed) or f"not within {WARM_SECONDS} s"
                raise JobError(f"the ranker did not load version {version}, the champion stays: {reason}")
            time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    run_job("promote", promote)
