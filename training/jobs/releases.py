"""List the releases: `python -m training.jobs.releases`."""

import json
import time

from recsys.model.registry import SEARCH_TAG, SIZE_TAG, ModelRegistry, RegisteredVersion
from training.job import run_job
from training.promotion.ramp import running_ramp
from training.promotion.rolled_back import rolled_back
from training.settings import JobSettings, RegistrySettings

ROW = "{:>7}  {:<21}  {:<15}  {:>8}  {:>8}  {:>10}  {:>8}  {:>8}"
UNKNOWN = "-"
ROLLED_BACK = "rolled back"


def releases(_: JobSettings) -> str:
    registry = ModelRegistry(RegistrySettings().mlflow_tracking_uri)
    versions, aliases = registry.versions(), registry.aliases()
    print(ROW.format("version", "aliases", "dataset", "NDCG@10", "HR@200", "recall", "age", "size"))
    for each in versions:
        names = sorted(alias for alias, version in aliases.items() if version == each.version)
        print(_row(each, [*names, ROLLED_BACK] if rolled_back(each.tags) else names))
    ramp = running_ramp(registry)
    return f"{len(versions)} versions" + (f"; a promotion ramps: {ramp}" if ramp else "")


def _row(each: RegisteredVersion, states: list[str]) -> str:
    tags = [each.tags.get(name, UNKNOWN) for name in ("dataset", "ndcg_at_10", "hr_at_200")]
    search = json.loads(each.tags.get(SEARCH_TAG, "{}"))
    recall = f"{search['recall']:.4f}" if "recall" in search else UNKNOWN
    size = f"{int(each.tags[SIZE_TAG]) / 1e6:.1f} MB" if SIZE_TAG in each.tags else UNKNOWN
    age = _age(time.time() - each.created)  # noqa: TID251 (MLflow's clock set the time)
    return ROW.format(each.version, ", ".join(states), *tags, recall, age, size)


def _age(seconds: float) -> str:
    """In the largest unit of which there are at least two."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    run_job("releases", releases)
