"""The evaluation as a page for people: one table, two plots, and how the numbers came about."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

TITLES = {
    "two_stage": "two towers and second stage",
    "two_tower": "two towers",
    "covisitation": "co-visitation",
    "popularity": "popularity",
}
COLUMNS = {
    "hr_at_10": "HR@10",
    "ndcg_at_10": "NDCG@10",
    "mrr_at_10": "MRR@10",
    "hr_at_50": "HR@50",
    "hr_at_100": "HR@100",
    "hr_at_200": "HR@200",
    "coverage_at_10": "coverage@10",
    "popularity_bias_at_10": "popularity bias@10",
}


def write_report(directory: Path, metrics: dict[str, Any], training: dict[str, Any]) -> None:
    """Write report.md, metrics_by_k.png and validation.png into `directory`."""
    models: dict[str, dict[str, float]] = metrics["models"]
    _plot_hit_rates(models, metrics["cutoffs"], directory / "metrics_by_k.png")
    _plot_validation(training["history"], directory / "validation.png")
    low, high = metrics["ndcg_at_10_interval"]
    lines = [
        f"# Two towers on {training['dataset']}: model {training['fingerprint']}",
        "",
        f"Leave-one-out: the last item of each of {metrics['num_users']:,} users is ranked among all "
        f"{training['num_items']:,} items, the seen ones filtered; the history includes the validation item. "
        "Ties count half. Coverage is the share of the catalogue in anybody's first ten, popularity bias the mean "
        "popularity percentile there (0.5: none).",
        *(
            [f"A random {metrics['num_users']:,} of {metrics['num_evaluable_users']:,} users were evaluated.", ""]
            if metrics["num_users"] < metrics["num_evaluable_users"]
            else [""]
        ),
        "| model | " + " | ".join(COLUMNS.values()) + " |",
        "| --- |" + " --- |" * len(COLUMNS),
        *(f"| {TITLES[name]} | " + " | ".join(f"{models[name][key]:.4f}" for key in COLUMNS) + " |" for name in models),
        "",
        f"NDCG@10 of the two towers: 95% bootstrap interval over users {low:.4f} to {high:.4f}; "
        f"{metrics['lift_over_popularity']:.1f} times popularity, {metrics['lift_over_covisitation']:.2f} times "
        "co-visitation.",
        "",
        "![Hit rate by cutoff](metrics_by_k.png)",
        "![Validation while training](validation.png)",
        "",
        f"Trained for {training['epochs']:.1f} epochs, {training['steps']:,} steps and {training['seconds'] / 60:.1f} "
        f"minutes of a budget of {training['train_minutes']:g}, with seed {training['seed']}"
        + ("; ended early, as validation had levelled off." if training["ended_early"] else "."),
        "",
    ]
    (directory / "report.md").write_text("\n".join(lines), encoding="utf-8")


def _plot_hit_rates(models: dict[str, dict[str, float]], cutoffs: list[int], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 4))
    for name, values in models.items():
        axes.plot(cutoffs, [values[f"hr_at_{k}"] for k in cutoffs], marker="o", label=TITLES[name])
    axes.set_xscale("log")
    axes.set_xticks(cutoffs, [str(k) for k in cutoffs])
    axes.set_xlabel("k")
    axes.set_ylabel("hit rate at k")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def _plot_validation(history: list[dict[str, float]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 4))
    epochs = [record["epoch"] for record in history]
    axes.plot(epochs, [record["validation_ndcg_at_10"] for record in history], color="tab:blue")
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation NDCG@10", color="tab:blue")
    loss = axes.twinx()
    loss.plot(epochs, [record["train_loss"] for record in history], color="tab:orange")
    loss.set_ylabel("training loss", color="tab:orange")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
