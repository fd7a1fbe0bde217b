"""The report of the rolling split: every baseline and model over several cuts in time, so that no single week decides.

All cuts have their own model and their own tested users, many of whom are tested at several cuts. So intervals come
from resampling users, each with all of its cuts (the cluster bootstrap; Field and Welsh 2007, "Bootstrapping Clustered
Data", JRSS B 69(3)).
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recsys.model.files import METRICS_FILE
from training.atomic import atomic_directory
from training.evaluation.gains import Gains
from training.evaluation.report import TITLES, table
from training.model_directory import latest_model
from training.settings import JobSettings

MODEL = "model"
"""The name of what is served: both stages, or the towers at cuts where a second stage did not help."""
BEST = "best_baseline"
"""At each cut, the baseline that was best on its validation."""
TITLE_OF_MODEL, TITLE_OF_BEST = "the model as served", "the best baseline of each cut"
ROLLING_FILE, PAGE, PLOT = "rolling.json", "report.md", "rolling.png"
RESAMPLES = 1000


class Cut(NamedTuple):
    metrics: dict[str, Any]
    gains: Gains


def write_rolling_report(settings: JobSettings) -> str:
    """Write report, plot and numbers of all cuts to `reports_dir`/summary; one line about them.

    Every cut has to be evaluated.
    """
    cuts = [_load(of_cut) for of_cut in settings.of_each_cut()]
    summary = summarise(cuts, settings.seed)
    directory = settings.reports_dir / "summary"
    with atomic_directory(directory) as partial:
        (partial / ROLLING_FILE).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        (partial / PAGE).write_text(_page(settings.dataset, summary), encoding="utf-8")
        _plot(settings.dataset, summary, partial / PLOT)
    ours, best, lift = summary["models"][MODEL], summary["models"][BEST], summary["lifts"][BEST]
    return (
        f"NDCG@10 {ours['mean']:.4f} (spread {ours['spread']:.4f}) over {len(cuts)} cuts, the best baselines "
        f"{best['mean']:.4f}: {lift['mean']:+.4f} (95% interval {lift['low']:+.4f} to {lift['high']:+.4f}); report in "
        f"{directory / PAGE}"
    )


def summarise(cuts: list[Cut], seed: int) -> dict[str, Any]:
    """NDCG@10 and HR@10 of every model by cut, their mean and spread, and the model's lift over each of the others."""
    ndcg, hr = ([_by_name(cut.metrics, name) for cut in cuts] for name in ("ndcg_at_10", "hr_at_10"))
    names = [name for name in (MODEL, BEST, *TITLES) if all(name in of_cut for of_cut in ndcg)]
    return {
        "cuts": [cut.metrics["cuts"][1] for cut in cuts],
        "users": [len(cut.gains.users) for cut in cuts],
        "best_baselines": [cut.metrics["best_baseline"] for cut in cuts],
        "models": {
            name: {
                "ndcg_at_10": [of_cut[name] for of_cut in ndcg],
                "hr_at_10": [of_cut[name] for of_cut in hr],
                "mean": float(np.mean([of_cut[name] for of_cut in ndcg])),
                "spread": float(np.std([of_cut[name] for of_cut in ndcg], ddof=1)),
                "mean_hr_at_10": float(np.mean([of_cut[name] for of_cut in hr])),
            }
            for name in names
        },
        "lifts": {name: _lift(cuts, name, seed) for name in names if name != MODEL},
        "lift_of_each_cut": [_lift([cut], BEST, seed) for cut in cuts],
        "slices": _slices(cuts),
    }


def _load(settings: JobSettings) -> Cut:
    directory = latest_model(settings.models_dir)
    metrics = json.loads((directory / METRICS_FILE).read_text(encoding="utf-8"))
    return Cut(metrics, Gains.load(settings.reports_dir / directory.name))


def _by_name(metrics: dict[str, Any], metric: str) -> dict[str, float]:
    values = {name: of_model[metric] for name, of_model in metrics["models"].items()}
    return {MODEL: values[metrics["served"]], BEST: values[metrics["best_baseline"]], **values}


def _lift(cuts: list[Cut], name: str, seed: int) -> dict[str, Any]:
    """The model's NDCG@10 minus that of `name`, user by user: at each cut, and its mean over the cuts."""
    differences = [cut.gains.of_model[cut.metrics["served"]] - cut.gains.of_model[_name_at(cut, name)] for cut in cuts]
    low, high = clustered_interval([cut.gains.users for cut in cuts], differences, seed)
    return {
        "by_cut": [float(values.mean()) for values in differences],
        "mean": float(np.mean([values.mean() for values in differences])),
        "low": low,
        "high": high,
    }


def _name_at(cut: Cut, name: str) -> str:
    return str(cut.metrics["best_baseline"]) if name == BEST else name


def clustered_interval(
    users: list[NDArray[np.int64]], values: list[NDArray[np.float64]], seed: int
) -> tuple[float, float]:
    """The 95% interval of the mean, over cuts, of the mean of values [users] at each cut, over resampled users."""
    everybody = np.unique(np.concatenate(users))
    placed = np.zeros((len(users), len(everybody)))
    present = np.zeros_like(placed)
    for row, (of_cut, found) in enumerate(zip(users, values, strict=True)):
        columns = np.searchsorted(everybody, of_cut)
        placed[row, columns], present[row, columns] = found, 1.0
    random = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES):
        times = np.bincount(random.integers(0, len(everybody), len(everybody)), minlength=len(everybody))
        means.append(np.mean((placed @ times) / np.maximum(present @ times, 1.0)))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _slices(cuts: list[Cut]) -> dict[str, Any]:
    """NDCG@10 on every slice, over the users of all cuts, of the models that all cuts have."""
    found: dict[str, Any] = {}
    for name, part in cuts[0].metrics["slices"].items():
        parts = [cut.metrics["slices"][name] for cut in cuts]
        num_users = sum(of_cut["num_users"] for of_cut in parts)
        values = [
            (of_cut["num_users"], _by_name({**cut.metrics, "models": of_cut["models"]}, "ndcg_at_10"))
            for cut, of_cut in zip(cuts, parts, strict=True)
            if of_cut["num_users"]
        ]
        models = set.intersection(*(set(of_cut) for _, of_cut in values)) if values else set()
        found[name] = {
            "title": part["title"],
            "num_users": num_users,
            "models": {each: sum(users * of_cut[each] for users, of_cut in values) / num_users for each in models},
        }
    return found


def title_of(name: str) -> str:
    return {MODEL: TITLE_OF_MODEL, BEST: TITLE_OF_BEST}.get(name, TITLES.get(name, name))


def _page(dataset: str, summary: dict[str, Any]) -> str:
    models, lifts = summary["models"], summary["lifts"]
    dates = [_date(cut) for cut in summary["cuts"]]
    rows = [
        [
            title_of(name),
            f"{values['mean']:.4f}",
            f"{values['spread']:.4f}",
            f"{values['mean_hr_at_10']:.4f}",
            *(f"{value:.4f}" for value in values["ndcg_at_10"]),
            _signed(lifts[name]) if name in lifts else "",
        ]
        for name, values in models.items()
    ]
    by_cut = zip(dates, summary["users"], summary["best_baselines"], summary["lift_of_each_cut"], strict=True)
    cuts = [[date, f"{users:,}", TITLES[best], _signed(lift)] for date, users, best, lift in by_cut]
    slices = [
        [part["title"], f"{part['num_users']:,}", *(_or_dash(part["models"].get(name)) for name in models)]
        for part in summary["slices"].values()
    ]
    lines = [
        f"# {dataset}: {len(dates)} cuts in time",
        "",
        "Every cut has a model of its own, trained on what happened before the window on which it is validated, and "
        "tested on the window after the cut. The columns with dates are NDCG@10 there; the spread is their standard "
        "deviation. The lift is the model's NDCG@10 minus that of the row, user by user, with the 95% interval over "
        "resampled users.",
        "",
        *table(["model", "NDCG@10", "spread", "HR@10", *dates, "lift of the model"], rows),
        "",
        "![NDCG@10 at each cut](rolling.png)",
        "",
        "## The model and the best baseline at each cut",
        "",
        *table(["cut", "users", "best baseline on validation", "lift of the model"], cuts),
        "",
        "## By user and item",
        "",
        "NDCG@10 over the users of all cuts.",
        "",
        *table(["users", "number", *(title_of(name) for name in models)], slices),
        "",
    ]
    return "\n".join(lines)


def _signed(lift: dict[str, float]) -> str:
    return f"{lift['mean']:+.4f} ({lift['low']:+.4f} to {lift['high']:+.4f})"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _date(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


def _plot(dataset: str, summary: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(9, 4.5))
    axes = figure.subplots()
    axes.set_prop_cycle(color=colormaps["tab20"](range(20)))
    places = range(len(summary["cuts"]))
    of_model = summary["models"][MODEL]["ndcg_at_10"]
    for name, values in summary["models"].items():
        if name == MODEL or (name != BEST and values["ndcg_at_10"] != of_model):
            width = 3 if name == MODEL else 1.2
            axes.plot(places, values["ndcg_at_10"], marker="o", markersize=4, linewidth=width, label=title_of(name))
    axes.set_xticks(list(places), [_date(cut) for cut in summary["cuts"]])
    axes.set_xlabel("cut")
    axes.set_ylabel("NDCG@10")
    axes.set_ylim(bottom=0)
    axes.set_title(dataset)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120, bbox_inches="tight")
