"""Run a job as a command: read the settings, print one line of result, and report a failure in one sentence."""

import sys
from collections.abc import Callable

from pydantic import ValidationError

from recsys.errors import ReleaseRefused, TandemError
from training.settings import JobSettings

Job = Callable[[JobSettings], str]
"""Does its work, which may have been done before, and returns one line about it."""

EXIT_FAILED = 1
EXIT_REFUSED = 3
"""A release was compared and is not promoted."""
EXIT_INTERRUPTED = 130


def run_job(name: str, job: Job) -> None:
    """Run `job` and print the line it returns. If it fails or is interrupted, print one sentence and exit non-zero."""
    try:
        print(f"{name}: {job(JobSettings())}", flush=True)
    except ValidationError as error:
        problems = "; ".join(f"{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors())
        sys.exit(_failed(name, problems))
    except ReleaseRefused as error:
        _failed(name, str(error))
        sys.exit(EXIT_REFUSED)
    except TandemError as error:
        sys.exit(_failed(name, str(error)))
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run it again to continue", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def for_each_cut(job: Job) -> Job:
    """The job for every cut of the rolling split, one after another; for the other splits, the job itself."""

    def over_the_cuts(settings: JobSettings) -> str:
        cuts = settings.of_each_cut()
        for place, of_cut in enumerate(cuts, start=1):
            line = job(of_cut)
            if place < len(cuts):
                print(f"cut {place} of {len(cuts)}: {line}", flush=True)
        return line if len(cuts) == 1 else f"cut {len(cuts)} of {len(cuts)}: {line}"

    return over_the_cuts


def _failed(name: str, reason: str) -> int:
    print(f"{name}: failed: {reason}", file=sys.stderr)
    return EXIT_FAILED
