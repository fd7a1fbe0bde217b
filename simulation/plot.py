"""The click-through of every policy by day, with what happened, as a picture."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from simulation.plan import Plan
from simulation.policies import PolicyName
from simulation.result import Seed
from training.atomic import atomic_file

COLOURS = {
    PolicyName.ORACLE: "#999999",
    PolicyName.CLOSED: "#1b7837",
    PolicyName.FROZEN: "#2166ac",
    PolicyName.POPULAR: "#b35806",
}
LABELS = {
    PolicyName.ORACLE: "oracle (knows the preferences)",
    PolicyName.CLOSED: "closed loop",
    PolicyName.FROZEN: "first release, frozen",
    PolicyName.POPULAR: "popular items",
}


def draw(seeds: Sequence[Seed], plan: Plan, file: Path) -> None:
    """Lines are means over the seeds, points their values."""
    figure = Figure(figsize=(9, 4.5))
    axes = figure.subplots()
    for policy, colour in COLOURS.items():
        days = pl.concat([_by_day(seed, policy, plan, number) for number, seed in enumerate(seeds)])
        means = days.group_by("day").agg(pl.col("click_through").mean()).sort("day")
        axes.scatter(days["day"], days["click_through"], s=8, color=colour, alpha=0.5, linewidths=0)
        axes.plot(means["day"], means["click_through"], color=colour, label=LABELS[policy])
    happened = {
        plan.season_day: "season",
        plan.first_retraining: "retraining",
        plan.second_retraining: "retraining",
        plan.bad_day: "bad release",
    }
    for day, event in happened.items():
        place = day - plan.opening_day - 0.5
        axes.axvline(place, color="black", linewidth=0.8, linestyle=":")
        axes.text(place + 0.1, 0.98, event, fontsize=8, va="top", transform=axes.get_xaxis_transform())
    axes.set(xlabel="day", ylabel="pages with a click", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4)
    axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as partial:
        figure.savefig(partial, format="png", dpi=130, bbox_inches="tight")


def _by_day(seed: Seed, policy: PolicyName, plan: Plan, number: int) -> pl.DataFrame:
    """Until the minimum of days with the bad release has passed, which all seeds have."""
    return (
        seed.views.filter(policy=policy)
        .with_columns((pl.col("day").floor() - plan.opening_day).cast(pl.Int32))
        .filter(pl.col("day") < plan.bad_day + plan.days_with_bad - plan.opening_day)
        .group_by("day")
        .agg(pl.col("clicked").mean().alias("click_through"), pl.lit(number).alias("seed"))
    )
