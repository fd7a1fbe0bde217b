"""Makes a report on releases in a process of its own, so that nothing that happens to it stops the collector.

It gives way to others, and when memory runs out, the kernel ends it first. `python -m events.report_process LOG` prints
the report.
"""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from events.reports.release_report import ReleaseReport
from events.settings import ReportSettings
from recsys import clock
from recsys.contracts.release_report import ReleasesReport
from recsys.errors import JobError

MAX_SECONDS = 1800.0


async def make_report(event_log: str) -> ReleasesReport:
    """Raises JobError if the process fails, is killed, or takes longer than MAX_SECONDS."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, event_log), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(MAX_SECONDS):
            output, errors = await process.communicate()
    except TimeoutError as error:
        raise JobError(f"the report took longer than {MAX_SECONDS:g} s") from error
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    if process.returncode != 0:
        last_line = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise JobError(f"the report failed with exit code {process.returncode}: {last_line}")
    return ReleasesReport.model_validate_json(output)


def _main(event_log: str) -> None:
    os.nice(10)
    with suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text("1000")
    report = ReleaseReport(event_log, ReportSettings()).make(clock.now())
    sys.stdout.write(report.model_dump_json())


if __name__ == "__main__":
    _main(sys.argv[1])
