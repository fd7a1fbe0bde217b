"""Wait until every replica of the ranker has loaded a version.

Only a replica that answers says anything about what it has loaded. One that is busy, refuses connections or does not
answer may hold the champion's traffic a moment later, so it is asked again until the time is up.
"""

import asyncio
import time

import httpx
from pydantic import ValidationError

from recsys.adapters.replicas import replica_urls
from recsys.contracts.retrieval import ServingReleases
from recsys.errors import JobError, UpstreamUnavailable

WARM_SECONDS = 120.0
POLL_SECONDS = 0.25
CALL_SECONDS = 5.0
TOO_MANY_REQUESTS = 429
REGISTRY = "MLflow: "
"""How a ranker's problem continues if the registry did not answer it. The ranker tries again by itself."""


async def wait_until_loaded(ranker_urls: str, version: int, headers: dict[str, str]) -> str:
    """Wait until all replicas behind `ranker_urls` have loaded the version; returns a clause about it.

    Raises JobError if a replica cannot load it or refuses the call, and if one has not loaded it after WARM_SECONDS.
    """
    deadline = time.monotonic() + WARM_SECONDS
    async with httpx.AsyncClient(timeout=CALL_SECONDS, headers=headers) as client:
        while True:
            urls, waiting = await _replicas(client, ranker_urls, version)
            if not waiting:
                return "the ranker has it loaded" if len(urls) == 1 else f"all {len(urls)} rankers have it loaded"
            if time.monotonic() > deadline:
                reasons = "; ".join(waiting)
                raise _not_loaded(version, f"after {WARM_SECONDS:.0f} s: {reasons}")
            await asyncio.sleep(POLL_SECONDS)


async def _replicas(client: httpx.AsyncClient, ranker_urls: str, version: int) -> tuple[list[str], list[str]]:
    """The replicas, and one clause for each that has not loaded the version."""
    try:
        urls = await replica_urls(ranker_urls)
    except ValueError as error:
        raise JobError(f"RANKER_URL: {error}") from error
    except UpstreamUnavailable as error:  # a name server may answer a moment later
        return [], [str(error)]
    found = await asyncio.gather(*(_missing(client, url, version) for url in urls))
    return urls, [f"{url} {missing}" for url, missing in zip(urls, found, strict=True) if missing is not None]


async def _missing(client: httpx.AsyncClient, url: str, version: int) -> str | None:
    """Why the replica does not count as having loaded the version; None if it has."""
    try:
        response = await client.get(f"{url}/v1/releases")
    except httpx.HTTPError as error:
        return f"does not answer ({type(error).__name__})"
    if response.status_code == TOO_MANY_REQUESTS or response.is_server_error:
        return f"answers with {response.status_code}"
    if not response.is_success:
        raise _not_loaded(version, f"{url} answers with {response.status_code}: {response.text[:200]}")
    try:
        serving = ServingReleases.model_validate_json(response.content)
    except ValidationError:
        raise _not_loaded(version, f"{url} does not answer like a ranker: {response.text[:200]}") from None
    if version in serving.loaded:
        return None
    problems = [problem for problem in serving.problems if problem.startswith(f"release {version}:")]
    lasting = [problem for problem in problems if not problem.startswith(f"release {version}: {REGISTRY}")]
    if lasting:
        raise _not_loaded(version, f"{url}: {'; '.join(lasting)}")
    return f"has loaded {serving.loaded or 'nothing'}" + "".join(f"; {problem}" for problem in problems)


def _not_loaded(version: int, reason: str) -> JobError:
    return JobError(f"version {version} is not loaded by every ranker, the champion stays: {reason}")
