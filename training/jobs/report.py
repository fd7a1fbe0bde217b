"""Report what users did with the recommendations of each release: `python -m training.jobs.report`.

Prints the releases, writes `releases.json` and `releases.md`, and publishes the report to the services.
"""

import asyncio

from tqdm import tqdm

from events.reports.page import page, releases_table
from events.reports.release_report import ReleaseReport
from events.settings import ReportSettings
from recsys import clock
from recsys.adapters.redis_client import open_redis
from recsys.adapters.redis_reports import RedisReports
from recsys.contracts.release_report import ReleasesReport
from training.atomic import atomic_file
from training.job import run_job
from training.settings import EventLogSettings, FeatureStoreSettings, JobSettings

PAGE, VALUES = "releases.md", "releases.json"


def report(settings: JobSettings) -> str:
    """The job. Raises UpstreamError if Redis cannot be reached; the files are written before."""
    event_log = EventLogSettings().event_log or settings.event_log
    made = ReleaseReport(event_log, ReportSettings()).make(
        clock.now(), lambda days: tqdm(list(days), unit="day", desc="report", leave=False)
    )
    for name, text in ((VALUES, made.model_dump_json(indent=1)), (PAGE, page(made))):
        with atomic_file(settings.reports_dir / name) as partial:
            partial.write_text(text, encoding="utf-8")
    print("\n".join(releases_table(made)))
    asyncio.run(_publish(made))
    impressions = sum(each.impressions for each in made.releases)
    return f"{impressions:,} impressions of {len(made.releases)} releases are in {settings.reports_dir / PAGE}"


async def _publish(made: ReleasesReport) -> None:
    redis = open_redis(FeatureStoreSettings().redis_url)
    try:
        await RedisReports(redis).publish(made)
    finally:
        await redis.aclose()


if __name__ == "__main__":
    run_job("report", report)
