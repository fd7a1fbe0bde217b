"""`make simulate`: the experiment with every seed, one after another, and what follows from all of them."""

import sys

from recsys.errors import TandemError
from simulation.experiment import simulate
from simulation.outcome import read_views
from simulation.plan import Plan
from simulation.plot import draw
from simulation.result import Result, Seed
from simulation.settings import SimulationSettings

INTERRUPTED = 130


def main() -> int:
    settings, plan = SimulationSettings(), Plan()
    reports, seeds = settings.data_dir / "reports", []
    try:
        for number in range(1, settings.seeds + 1):
            folder = settings.data_dir.resolve() / "simulation" / str(number)
            outcome = simulate(number, plan, folder, plan.equal_releases_of(number, settings.seeds))
            seeds.append(Seed(outcome, read_views(folder)))
    except TandemError as error:
        print(f"simulate: failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("simulate: interrupted; finished seeds are kept", file=sys.stderr)
        return INTERRUPTED
    result = Result.of(seeds)
    result.write(reports / "simulation.json")
    draw(seeds, plan, reports / "simulation.png")
    print(f"{result.table()}\nsimulate: {result.summary()}; {reports / 'simulation.json'}", flush=True)
    for problem in result.problems():
        print(f"simulate: failed: {problem}", file=sys.stderr)
    return 1 if result.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
