"""The evaluation report: tables, plots and the evaluation protocol."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from recsys.candidates import TOWERS
from recsys.contracts.base import NUM_CANDIDATES
from recsys.model.sources import Source
from training.models.recipe import WARM_SHARE
from training.models.source_ranks import ALL, TOWERS_ALONE

TITLES = {
    "two_stage": "two towers and second stage",
    "two_tower": "two towers",
    "own_counts_popularity": "own counts, then popularity of 30 days",
    "own_counts": "own counts",
    "own_latest": "own latest items",
    "covisitation": "directed co-visitation",
    "last_basket": "co-visitation of the last basket",
    "ease": "EASE, fading input",
    "popularity_7_days": "popularity of 7 days",
    "popularity_30_days": "popularity of 30 days",
    "popularity_decayed": "popularity with decay",
    "popularity": "popularity",
}
SOURCE_TITLES = {
    TOWERS: "the towers beside the others",
    Source.OWN: "the user's own items",
    Source.FOLLOWING: "what followed the latest items",
    Source.TRENDING: "what is trending",
    Source.TRENDING_IN_CATEGORIES: "what is trending in the user's categories",
}
MORE_COLUMNS = {"coverage_at_10": "coverage@10", "popularity_bias_at_10": "popularity bias@10"}
METRICS = {"ndcg": "NDCG", "hr": "HR", "mrr": "MRR"}

Models = dict[str, dict[str, float]]


def write_report(directory: Path, metrics: dict[str, Any], training: dict[str, Any]) -> None:
    """Write report.md and its plots into `directory`."""
    models: Models = {name: metrics["models"][name] for name in TITLES if name in metrics["models"]}
    cutoffs: list[int] = metrics["cutoffs"]
    _plot_by_cutoff(models, cutoffs, directory / "metrics_by_k.png")
    _plot_intervals(models, metrics["intervals"], directory / "intervals.png")
    _plot_validation(training["history"], directory / "validation.png")
    lines = [
        f"# {training['dataset']}: model {training['fingerprint']}",
        "",
        *_protocol(metrics, training),
        "",
        *_main_table(models, metrics["intervals"]),
        "",
        *_lift(metrics),
        "![NDCG@10 with intervals](intervals.png)",
        "![Metrics by cutoff](metrics_by_k.png)",
        "",
        "## All cutoffs",
        "",
        *_cutoff_table(models, cutoffs),
        "",
        *_candidates(metrics["candidates"]),
        "## By user and item",
        "",
        *_slice_table(models, metrics["slices"]),
        "",
        "## Training",
        "",
        *_training(training),
        "",
        "![Validation while training](validation.png)",
        "",
    ]
    (directory / "report.md").write_text("\n".join(lines), encoding="utf-8")


def _protocol(metrics: dict[str, Any], training: dict[str, Any]) -> list[str]:
    seen = "the seen ones filtered" if metrics["exclude_seen"] else "the seen ones among them"
    lines = [
        f"{_held_out(metrics)} The item is ranked among all {training['num_items']:,} items, {seen}. Ties count "
        "half. Coverage is the share of the catalogue in at least one user's first ten, popularity bias the mean "
        "popularity percentile there (0.5: none). Intervals are 95% bootstrap intervals over users."
    ]
    if metrics["num_users"] < metrics["num_evaluable_users"]:
        lines += ["", f"A random {metrics['num_users']:,} of {metrics['num_evaluable_users']:,} users were evaluated."]
    if metrics["exclude_seen"] and metrics["share_seen_before"] > 0:
        lines += [
            "",
            f"{metrics['share_seen_before']:.1%} of the test items had been seen before and count as missed for every "
            "model, because seen items are not recommended again. EXCLUDE_SEEN=false changes that for training, "
            "evaluation and serving.",
        ]
    if metrics["num_unsearchable_items"]:
        lines += [
            "",
            f"{metrics['num_unsearchable_items']:,} items have neither an event in training nor content. The towers "
            "cannot place them, so they can be found by id and title only, and count as missed here.",
        ]
    for reason in dict.fromkeys(metrics["skipped"].values()):
        names = [TITLES[name] for name, its_reason in metrics["skipped"].items() if its_reason == reason]
        lines += ["", f"Left out, because {reason}: {'; '.join(names)}."]
    return lines


def _held_out(metrics: dict[str, Any]) -> str:
    if metrics["cuts"] is None:
        return (
            f"Leave-one-out: the item is the last one of each of {metrics['num_users']:,} users; its history includes "
            "the validation item. Training may have seen later interactions of other users; SPLIT=temporal prevents "
            "that."
        )
    validation_cut, test_cut = (f"{datetime.fromtimestamp(cut, UTC):%Y-%m-%d %H:%M}" for cut in metrics["cuts"])
    share = metrics["num_train_interactions"] / metrics["num_interactions"]
    until = (
        "" if metrics["end"] is None else f", and before {datetime.fromtimestamp(metrics['end'], UTC):%Y-%m-%d %H:%M},"
    )
    return (
        f"Temporal split: trained on what happened before {validation_cut} UTC ({share:.1%} of all interactions), "
        f"validated on what happened before {test_cut}. The item is the first one after that{until} of each of "
        f"{metrics['num_users']:,} users with earlier interactions. This model is for measuring only; the served model "
        "is trained on the end of the log as well."
    )


def _main_table(models: Models, intervals: dict[str, tuple[float, float]]) -> list[str]:
    columns = ["NDCG@10", "95% interval", "HR@10", "MRR@10", "HR@200", *MORE_COLUMNS.values()]
    rows = [
        [
            TITLES[name],
            f"{values['ndcg_at_10']:.4f}",
            f"{intervals[name][0]:.4f} to {intervals[name][1]:.4f}",
            *(f"{values[key]:.4f}" for key in ("hr_at_10", "mrr_at_10", "hr_at_200", *MORE_COLUMNS)),
        ]
        for name, values in models.items()
    ]
    return table(["model", *columns], rows)


def _lift(metrics: dict[str, Any]) -> list[str]:
    best = metrics["best_baseline"]
    lines = [
        f"The best baseline on validation is **{TITLES[best]}**, with NDCG@10 "
        f"{metrics['best_baseline_ndcg_at_10']:.4f} on test. The model differs from it by "
        f"{metrics['lift_over_best_baseline']:+.4f}, user by user (interval "
        f"{metrics['lift_over_best_baseline_low']:+.4f} to {metrics['lift_over_best_baseline_high']:+.4f}).",
        "",
        *_clock(metrics),
        f"NDCG@10 is {metrics['lift_over_popularity']:.1f} times that of popularity and "
        f"{metrics['lift_over_covisitation']:.2f} times that of co-visitation.",
        "",
    ]
    if "second_stage_lift" in metrics:
        low, high = metrics["second_stage_lift_interval"]
        lines += [
            f"The second stage adds {metrics['second_stage_lift']:.4f} to the towers, user by user (interval {low:.4f} "
            f"to {high:.4f}). It was trained on the validation items, which the towers used only for model selection.",
            "",
        ]
    return lines


def _clock(metrics: dict[str, Any]) -> list[str]:
    """What the baselines with a clock count."""
    if metrics["half_life_days"] is None:
        return []
    until = "the end of training" if metrics["cuts"] is None else "the test"
    return [
        f"Popularity of some days or with decay counts what happened before {until}, as a shop would know it; the "
        f"half-life of {metrics['half_life_days']:g} days was chosen on validation. The last basket is what the user "
        "took at the latest time of the history.",
        "",
    ]


def _cutoff_table(models: Models, cutoffs: list[int]) -> list[str]:
    header = ["model", *(f"{title}@{k}" for title in METRICS.values() for k in cutoffs)]
    rows = [
        [TITLES[name], *(f"{values[f'{metric}_at_{k}']:.4f}" for metric in METRICS for k in cutoffs)]
        for name, values in models.items()
    ]
    return table(header, rows)


def _candidates(candidates: dict[str, Any] | None) -> list[str]:
    if candidates is None:
        return []
    counts: dict[str, int] = candidates["counts"]
    rows = [
        [title, *(f"{candidates[part][name]:.4f}" for part in ("recall_on_validation", "recall"))]
        for name, title in [
            (TOWERS_ALONE, f"the towers alone, {NUM_CANDIDATES} candidates"),
            *((name, f"{SOURCE_TITLES[name]}, {count} candidates") for name, count in counts.items()),
            (ALL, f"all of them together, {NUM_CANDIDATES} candidates"),
        ]
    ]
    return [
        "## Candidates",
        "",
        f"The second stage ranks at most {NUM_CANDIDATES} candidates. How many each source may propose was chosen on "
        "validation, for the highest recall of all together. Recall is the share of the held-out items among the "
        "candidates; two sources may have the same item. Validation has several windows if it is cut in time.",
        "",
        *table(["source", "recall on validation", "recall on test"], rows),
        "",
    ]


def _slice_table(models: Models, slices: dict[str, Any]) -> list[str]:
    rows = [
        [part["title"], f"{part['num_users']:,}", *(_or_dash(part["models"].get(name)) for name in models)]
        for part in slices.values()
    ]
    return table(["NDCG@10 of", "users", *(TITLES[name] for name in models)], rows)


def _or_dash(values: dict[str, float] | None) -> str:
    return f"{values['ndcg_at_10']:.4f}" if values else "-"


def _training(training: dict[str, Any]) -> list[str]:
    ended = "; ended early, because validation stopped improving" if training["ended_early"] else ""
    return [
        _start(training),
        "",
        f"The towers were trained for {training['epochs']:.1f} epochs, {training['steps']:,} steps and "
        f"{training['seconds'] / 60:.1f} minutes{ended}; the budget for both stages was {training['train_minutes']:g} "
        f"minutes, the seed {training['seed']}.",
        "",
        f"On validation items: {training['second_stage']['outcome']}.",
    ]


def _start(training: dict[str, Any]) -> str:
    start = training.get("started_from")
    if start is None:
        return "The towers were trained from nothing (a cold start)."
    return (
        f"The towers started from those of version {start['version']} (weights {start['weights']}): a warm start, for "
        f"at most {WARM_SHARE:.0%} of the time of a cold one."
    )


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows]]


def _plot_by_cutoff(models: Models, cutoffs: list[int], path: Path) -> None:
    figure = Figure(figsize=(11, 4))
    panels = figure.subplots(1, 2)
    for axes, metric in zip(panels, ("hr", "ndcg"), strict=True):
        for name, values in models.items():
            axes.plot(cutoffs, [values[f"{metric}_at_{k}"] for k in cutoffs], marker="o", label=TITLES[name])
        axes.set_xscale("log")
        axes.set_xticks(cutoffs, [str(k) for k in cutoffs])
        axes.set_xlabel("k")
        axes.set_ylabel(f"{METRICS[metric]}@k")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120, bbox_inches="tight")


def _plot_intervals(models: Models, intervals: dict[str, tuple[float, float]], path: Path) -> None:
    figure = Figure(figsize=(6, 1 + 0.3 * len(models)))
    axes = figure.subplots()
    for place, (name, values) in enumerate(reversed(models.items())):
        low, high = intervals[name]
        axes.plot([low, high], [place, place], color="tab:blue", linewidth=2)
        axes.plot(values["ndcg_at_10"], place, marker="o", color="tab:blue")
    axes.set_yticks(range(len(models)), [TITLES[name] for name in reversed(models)])
    axes.set_xlabel("NDCG@10, 95% interval")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def _plot_validation(history: list[dict[str, float]], path: Path) -> None:
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    epochs = [record["epoch"] for record in history]
    axes.plot(epochs, [record["validation_ndcg_at_10"] for record in history], color="tab:blue")
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation NDCG@10", color="tab:blue")
    loss = axes.twinx()
    loss.plot(epochs, [record["train_loss"] for record in history], color="tab:orange")
    loss.set_ylabel("training loss", color="tab:orange")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")
