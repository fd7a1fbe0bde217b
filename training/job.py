"""Run a job as a command: read the settings, print one line of result, and report a failure in one sentence."""

import sys
from collections.abc import Callable

from pydantic import ValidationError

from recsys.errors import TandemError
from training.settings import JobSettings

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def run_job(name: str, job: Callable[[JobSettings], str]) -> None:
    """Run `job` and print the line it returns. If it fails or is interrupted, print one sentence and exit non-zero."""
    try:
        print(f"{name}: {job(JobSettings())}", flush=True)
    except ValidationError as error:
        problems = "; ".join(f"{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors())
        sys.exit(_failed(name, problems))
    except TandemError as error:
        sys.exit(_failed(name, str(error)))
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run it again to continue", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _failed(name: str, reason: str) -> int:
    print(f"{name}: failed: {reason}", file=sys.stderr)
    return EXIT_FAILED
