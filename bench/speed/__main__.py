"""`make bench`: requests per second, latency and CPU of a stack of its own, beside a floor and Ray Serve.

All of them run at the same time, and are loaded in turns, so that they share whatever else the machine does.
"""

import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from pydantic import ValidationError

from bench.settings import BenchSettings
from bench.speed.measured import Measurements, Target, measure, measure_at_rates
from bench.speed.rates import job_rates, start_seconds
from bench.speed.report import Report, Sized
from bench.speed.targets import TANDEM, by_candidates, by_rankers, by_user, of_users, prepared, started
from recsys.errors import JobError

INTERRUPTED = 130


def main() -> int:
    try:
        settings = BenchSettings()
    except ValidationError as error:
        print(f"bench: failed: {'; '.join(each['msg'] for each in error.errors())}", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
            report = measured_on_a_stack(settings, Path(folder))
        for size in settings.other_sizes:
            with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
                report.by_size.append(measured_size(settings, size, Path(folder)))
    except JobError as error:
        print(f"bench: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return INTERRUPTED
    print(report.text())
    report.write(settings.bench_page)
    return 0


def measured_on_a_stack(settings: BenchSettings, folder: Path) -> Report:
    with prepared(folder, settings.size) as stack:
        with ExitStack() as peers:
            targets = list(started(settings, stack, folder, peers))
            compared = measure(settings, targets, settings.bench_rounds)
            at_rates = measure_at_rates(settings, targets, compared)
        return Report(
            settings,
            compared,
            at_rates,
            by_user=measure(settings, list(by_user(stack, folder))),
            by_candidates=in_turn(settings, by_candidates(stack, folder)),
            by_rankers=in_turn(settings, by_rankers(stack, folder)),
            by_size=[Sized(settings.size, compared, start_seconds(stack), job_rates(stack))],
        )


def measured_size(settings: BenchSettings, size: tuple[int, int], folder: Path) -> Sized:
    """The same requests on a stack with another catalogue or other users."""
    with prepared(folder, size) as stack:
        target = of_users(TANDEM, stack, folder)
        return Sized(size, measure(settings, [target]), start_seconds(stack), job_rates(stack))


def in_turn(settings: BenchSettings, targets: Iterable[Target]) -> Measurements:
    """Targets that are started one after the other."""
    return Measurements([each for target in targets for each in measure(settings, [target]).all])


if __name__ == "__main__":
    sys.exit(main())
