"""The demo's output: wait until the services are ready, and print recommendations for three users."""

import signal
import sys
import time
from itertools import zip_longest

import httpx
import polars as pl

from local.settings import LocalSettings
from recsys.errors import JobError
from recsys.internal_token import internal_headers
from training.datasets.manifest import INTERACTIONS_FILE
from training.settings import JobSettings

READY_SECONDS = 180
SHOWN_USERS = 3
SHOWN_ITEMS = 8
COLUMN = 44
HISTORIES = (10, 100)
"""Range of interactions of the users shown: enough to show a taste, few enough to read."""


def main() -> int:
    settings = LocalSettings()
    try:
        wait_until_ready(settings)
    except JobError as error:
        print(f"demo: failed: {error}", file=sys.stderr)
        return 1
    with httpx.Client(timeout=10, headers=internal_headers(settings.internal_token)) as client:
        for user_id in example_users():
            show(client, settings, user_id)
    print_addresses(settings)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


def wait_until_ready(settings: LocalSettings, *, collector: bool = True) -> None:
    """Wait until all services are ready and miss nothing. Raises JobError if one is not in time.

    `collector` says whether the collector runs.
    """
    give_up = time.monotonic() + READY_SECONDS
    problem = ""
    urls = [settings.feature_service_url, settings.ranker_url, settings.orchestrator_url]
    with httpx.Client(timeout=10, headers=internal_headers(settings.internal_token)) as client:
        for url in [*urls, settings.collector_url] if collector else urls:
            while True:
                try:
                    response = client.get(f"{url}/readyz")
                    if is_whole(response):
                        break
                    problem = f"{url}/readyz returned {response.text[:300]}"
                except httpx.HTTPError as error:
                    problem = f"{url}: {error}"
                if time.monotonic() > give_up:
                    raise JobError(f"not ready after {READY_SECONDS} s: {problem}")
                time.sleep(0.2)


def is_whole(response: httpx.Response) -> bool:
    """Whether a response of /readyz says that the service is ready and that nothing is missing."""
    described = response.headers.get("content-type", "").startswith("application/json")  # the ranker sends text
    return response.is_success and not (described and response.json().get("degraded"))


def example_users() -> list[str]:
    """The same users every time, of medium activity."""
    shortest, longest = HISTORIES
    counts = (
        pl.scan_parquet(JobSettings().processed_dir / INTERACTIONS_FILE)
        .group_by("user_id")
        .len()
        .with_columns((~pl.col("len").is_between(shortest, longest)).alias("unfit"))
        .sort("unfit", "user_id")
        .head(SHOWN_USERS)
    )
    return counts.collect()["user_id"].to_list()


def show(client: httpx.Client, settings: LocalSettings, user_id: str) -> None:
    features = client.get(f"{settings.feature_service_url}/v1/users/{user_id}/features").raise_for_status().json()
    recent = [_title(client, settings, item_id) for item_id in reversed(features["recent_items"][-SHOWN_ITEMS:])]
    body = {"user_id": user_id, "top_k": SHOWN_ITEMS}
    response = client.post(f"{settings.orchestrator_url}/v1/recommendations", json=body).raise_for_status().json()
    titles = [each["title"] or each["item_id"] for each in response["recommendations"]]
    total_ms = response["timings_ms"]["total"]
    print(f"\nuser {user_id}, {response['tier']} by release {response['release']}, {total_ms:.1f} ms")
    print(f"  {'recently (newest first)':<{COLUMN}}  recommended")
    for seen, recommended in zip_longest(recent, titles, fillvalue=""):
        print(f"  {_fit(seen):<{COLUMN}}  {_fit(recommended)}")


def print_addresses(settings: LocalSettings) -> None:
    print(f"\nAPI      {settings.orchestrator_url}/docs")
    print(f"MLflow   {settings.mlflow_url}")
    print(f"ranker   {settings.ranker_url}    feature service   {settings.feature_service_url}/docs")
    print("\nTry it:")
    print(f"  curl -s {settings.orchestrator_url}/v1/popular?top_k=5")
    print("\nCtrl-C stops everything.", flush=True)


def _title(client: httpx.Client, settings: LocalSettings, item_id: str) -> str:
    response = client.get(f"{settings.orchestrator_url}/v1/items/{item_id}")
    return str(response.json()["title"]) if response.is_success else item_id


def _fit(title: str) -> str:
    return title if len(title) <= COLUMN else title[: COLUMN - 1] + "…"


if __name__ == "__main__":
    sys.exit(main())
