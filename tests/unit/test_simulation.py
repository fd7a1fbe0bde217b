"""The simulated shop without its stack: what visitors want and do, and what follows from their pages."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from simulation.behaviour import EXAMINED, click_chances, clicked, drift, follow_the_season, found, new_visitor
from simulation.outcome import VIEW_SCHEMA, Mark, Outcome, Ramped, key_of
from simulation.phases import Phase, click_through, days_of, pages_of
from simulation.plan import Plan
from simulation.plot import draw
from simulation.policies import Oracle, PolicyName
from simulation.population import Population
from simulation.result import Result, Seed
from simulation.shop_files import ITEMS, LOG, unix_time, write_items, write_log, write_shuffled
from simulation.visits import PageView
from simulation.world import Visitor, World

PLAN = Plan(visitors=20, visits_per_day=30)
SEASON = PLAN.season_day


@pytest.fixture(scope="module")
def world() -> World:
    return World(7, PLAN.assortment)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def visitor(world: World, random: np.random.Generator) -> Visitor:
    return new_visitor("V1", world, random)


def population(world: World, seed: int = 5) -> Population:
    return Population.of(world, "V", PLAN.visitors, PLAN.habits, np.random.default_rng(seed))


class TestWorld:
    def test_what_is_wanted_sums_to_one(self, world: World, visitor: Visitor) -> None:
        visitor.look_at(11)
        assert world.wanted(visitor, SEASON).sum() == pytest.approx(1.0)

    def test_what_is_sold_out_or_not_launched_is_never_wanted(self, world: World, visitor: Visitor) -> None:
        for day in (PLAN.first_day, SEASON - 1, SEASON, SEASON + 20):
            visitor.memory = [int(np.flatnonzero(world.last_day <= day)[0])] if (world.last_day <= day).any() else []
            assert (world.wanted(visitor, day)[~world.on_sale(day)] == 0).all()

    def test_an_item_is_wanted_once(self, world: World, visitor: Visitor) -> None:
        before = world.wanted(visitor, SEASON)
        favourite = int(before.argmax())
        visitor.look_at(favourite)
        assert before[favourite] > 0
        assert world.wanted(visitor, SEASON)[favourite] == 0

    def test_tastes_are_wanted(self, world: World, visitor: Visitor) -> None:
        category = world.catalogue.category
        chances = world.wanted(visitor, SEASON)
        share = chances[category == visitor.tastes[0]].sum()
        visitor.tastes = [(visitor.tastes[0] + 1) % world.num_categories] * 3
        assert share > world.wanted(visitor, SEASON)[category == visitor.tastes[0] - 1].sum()

    def test_successors_of_the_latest_item_are_wanted(self, world: World, visitor: Visitor) -> None:
        last = int(np.flatnonzero(world.on_sale(SEASON))[0])
        following = [item for item in world.catalogue.successors[last] if world.on_sale(SEASON)[item]]
        before = world.wanted(visitor, SEASON)[following]
        visitor.look_at(last)
        assert (world.wanted(visitor, SEASON)[following] > before + 0.02).all()

    def test_a_season_replaces_a_part_of_the_assortment(self, world: World) -> None:
        before, after = world.on_sale(SEASON - 0.01), world.on_sale(SEASON)
        assert (after & ~before).sum() > 0.15 * world.num_items
        assert (before & ~after).sum() > 0.1 * before.sum()

    def test_the_day_decides_and_not_the_order_of_the_questions(self, world: World, visitor: Visitor) -> None:
        first = world.wanted(visitor, SEASON)
        world.wanted(visitor, SEASON + 9)
        assert (world.wanted(visitor, SEASON) == first).all()


class TestBehaviour:
    def test_later_positions_are_looked_at_less(self, world: World, visitor: Visitor) -> None:
        wanted = world.wanted(visitor, SEASON)
        item = int(wanted.argmax())
        chances = click_chances([item] * 10, wanted)
        assert chances[1:] == pytest.approx(EXAMINED * chances[:-1])

    def test_clicks_happen_as_often_as_their_chances_say(self, random: np.random.Generator) -> None:
        wanted = np.array([0.2, 0.05, 0.0, 0.75])
        page = [3, 2, 0, 1]
        clicks = np.zeros(4)
        for _ in range(4_000):
            clicks[clicked(page, wanted, random)] += 1
        assert clicks[page] / 4_000 == pytest.approx(click_chances(page, wanted), abs=0.03)
        assert clicks[2] == 0

    def test_items_are_found_as_often_as_they_are_wanted(self, random: np.random.Generator) -> None:
        wanted = np.array([0.1, 0.0, 0.6, 0.3])
        counts = np.bincount([found(wanted, random) for _ in range(4_000)], minlength=4)
        assert counts / 4_000 == pytest.approx(wanted, abs=0.03)

    def test_drift_changes_what_is_wanted(self, world: World, visitor: Visitor, random: np.random.Generator) -> None:
        before = world.wanted(visitor, SEASON)
        tastes = list(visitor.tastes)
        while visitor.tastes == tastes:
            drift(visitor, world, random)
        assert sum(old != new for old, new in zip(tastes, visitor.tastes, strict=True)) == 1
        assert abs(world.wanted(visitor, SEASON) - before).sum() > 0.05

    def test_a_season_changes_tastes_as_often_as_it_should(self, world: World, random: np.random.Generator) -> None:
        visitors = [new_visitor(str(number), world, random) for number in range(400)]
        before = [list(visitor.tastes) for visitor in visitors]
        for visitor in visitors:
            follow_the_season(visitor, 0.5, world, random)
        changed = [
            old != new for b, v in zip(before, visitors, strict=True) for old, new in zip(b, v.tastes, strict=True)
        ]
        assert np.mean(changed) == pytest.approx(0.5, abs=0.06)


class TestPopulation:
    def test_visits_come_in_order_within_their_day(self, world: World) -> None:
        days = [visit.day for visit in population(world).visits_on(SEASON)]
        assert len(days) > 10
        assert days == sorted(days)
        assert all(SEASON <= day < SEASON + 1 for day in days)

    def test_a_seed_gives_the_same_log_again(self, world: World) -> None:
        assert list(population(world).browse(SEASON)) == list(population(world).browse(SEASON))
        assert list(population(world).browse(SEASON)) != list(population(world, seed=6).browse(SEASON))

    def test_a_copy_goes_its_own_way(self, world: World) -> None:
        original = population(world)
        copied = original.copy()
        log = list(copied.browse(SEASON))
        assert not any(visitor.memory for visitor in original.visitors)
        assert list(original.browse(SEASON)) == log

    def test_nobody_finds_an_item_twice(self, world: World) -> None:
        own = population(world)
        log = [event for day in range(SEASON - 3, SEASON) for event in own.browse(day)]
        assert len({(event.user_id, event.item) for event in log}) == len(log)

    async def test_the_oracle_shows_what_is_wanted_most(self, world: World) -> None:
        visit = next(population(world).visits_on(SEASON))
        wanted = world.wanted(visit.visitor, visit.day)
        page = await Oracle(10).page(visit, wanted)
        assert wanted[page.items].tolist() == sorted(wanted, reverse=True)[:10]


class TestShopFiles:
    def test_the_items_of_a_season_appear_with_it(self, world: World, tmp_path: Path) -> None:
        write_items(tmp_path, world, SEASON - 1)
        before = set(pl.read_parquet(tmp_path / ITEMS)["item_id"])
        write_items(tmp_path, world, SEASON)
        after = set(pl.read_parquet(tmp_path / ITEMS)["item_id"])
        assert before < after
        assert len(after - before) > 0.15 * world.num_items

    def test_shuffling_keeps_users_and_popularity_and_loses_the_rest(self, world: World, tmp_path: Path) -> None:
        own = population(world)
        write_log(tmp_path, world, [event for day in range(SEASON - 3, SEASON) for event in own.browse(day)])
        write_items(tmp_path, world, SEASON)
        write_shuffled(tmp_path / "bad", tmp_path / LOG, tmp_path / ITEMS, seed=1)
        log, shuffled = pl.read_parquet(tmp_path / LOG), pl.read_parquet(tmp_path / "bad" / LOG)
        assert shuffled.drop("item_id").equals(log.drop("item_id"))
        assert shuffled["item_id"].sort().equals(log["item_id"].sort())
        assert (shuffled["item_id"] == log["item_id"]).mean() < 0.1

    def test_times_are_those_of_the_days(self, world: World, tmp_path: Path) -> None:
        write_log(tmp_path, world, population(world).browse(SEASON))
        times = pl.read_parquet(tmp_path / LOG)["timestamp"]
        assert times.is_sorted()
        assert times[0] >= unix_time(SEASON)
        assert times[-1] < unix_time(SEASON + 1.1)


def views_of(click_through: dict[tuple[PolicyName, Phase], float], users: int = 40) -> pl.DataFrame:
    """Every user looks at ten pages per phase, and clicks this share of them."""
    views = [
        PageView(policy, f"{policy}{user}", days_of(phase, PLAN)[0] + 0.5, page < 10 * share, 1, "personalized")
        for (policy, phase), share in click_through.items()
        for user in range(users)
        for page in range(10)
    ]
    return pl.DataFrame(views, schema=VIEW_SCHEMA, orient="row")


def seed_of(closed: list[float], frozen: list[float], *, bad: int = 150, rolled_back: str | None = "worse") -> Seed:
    """Click-through of both by phase."""
    shares = {(PolicyName.CLOSED, phase): share for phase, share in zip(Phase, closed, strict=True)}
    shares |= {(PolicyName.FROZEN, phase): share for phase, share in zip(Phase, frozen, strict=True)}
    shares |= {(policy, phase): 0.1 for policy in (PolicyName.POPULAR, PolicyName.ORACLE) for phase in Phase}
    equal = [Ramped(release=5, impressions=100, rolled_back=None, ended=True)]
    outcome = Outcome(
        key="k",
        seed=1,
        plan=PLAN,
        marks=[Mark(day=SEASON, event="season")],
        bad=Ramped(release=4, impressions=bad, rolled_back=rolled_back, ended=rolled_back is not None),
        equal=equal,
    )
    return Seed(outcome, views_of(shares))


class TestResult:
    def test_it_is_that_of_a_calculation_by_hand(self) -> None:
        result = Result.of([seed_of([0.6, 0.3, 0.5, 0.6], [0.6, 0.3, 0.3, 0.2])] * 3)
        assert result.closed_over_frozen.mean == pytest.approx((0.3 + 0.5 + 0.6) / 3 - (0.3 + 0.3 + 0.2) / 3)
        assert result.recovered_share == pytest.approx((0.6 - 0.2) / (0.6 - 0.2))
        assert result.click_through_by_phase[Phase.FIRST][PolicyName.CLOSED] == pytest.approx(0.5)
        assert result.bad_release_impressions == [150, 150, 150]
        assert (result.equal_release_runs, result.equal_release_rollbacks) == (3, 0)
        assert result.problems() == []

    def test_a_loop_that_does_not_close_is_said_to_be_none(self) -> None:
        result = Result.of([seed_of([0.6, 0.3, 0.3, 0.3], [0.6, 0.3, 0.3, 0.3], bad=2_400, rolled_back=None)])
        problems = " ".join(result.problems())
        assert "may be chance" in problems
        assert "0% of the loss came back" in problems
        assert "[2400]" in problems

    def test_intervals_hold_the_mean_and_are_wider_with_fewer_users(self) -> None:
        seed = seed_of([0.6, 0.3, 0.5, 0.6], [0.6, 0.3, 0.3, 0.2])
        random = np.random.default_rng(1)
        clicks = pl.Series(random.random(len(seed.views)) < 0.4)
        noisy = seed._replace(views=seed.views.with_columns(clicked=clicks))
        few = noisy._replace(views=noisy.views.filter(pl.col("user_id").str.ends_with("1")))
        wide, narrow = Result.of([few]).closed_over_frozen, Result.of([noisy]).closed_over_frozen
        assert narrow.low < narrow.mean < narrow.high
        assert narrow.high - narrow.low < wide.high - wide.low

    def test_pages_are_counted_by_user_and_phase(self) -> None:
        views = views_of({(PolicyName.CLOSED, Phase.BEFORE): 0.3, (PolicyName.CLOSED, Phase.SECOND): 1.0}, users=2)
        pages = pages_of(views, PolicyName.CLOSED, PLAN)
        assert pages.tolist() == [[[10, 3], [0, 0], [0, 0], [10, 10]]] * 2
        assert click_through(pages.sum(axis=0), Phase.BEFORE, Phase.SECOND) == pytest.approx(0.65)

    def test_the_plot_is_a_picture(self, tmp_path: Path) -> None:
        draw([seed_of([0.6, 0.3, 0.5, 0.6], [0.6, 0.3, 0.3, 0.2])], PLAN, tmp_path / "simulation.png")
        assert (tmp_path / "simulation.png").read_bytes().startswith(b"\x89PNG")


class TestOutcome:
    def test_it_is_found_again_unless_the_plan_changed(self, tmp_path: Path) -> None:
        key = key_of(PLAN, 6)
        seed_of([0.5] * 4, [0.5] * 4).outcome.model_copy(update={"key": key}).write(tmp_path, [])
        assert Outcome.read(tmp_path, key) is not None
        assert Outcome.read(tmp_path, key_of(PLAN.model_copy(update={"new": 0.3}), 6)) is None
        assert Outcome.read(tmp_path, key_of(PLAN, 7)) is None

    def test_the_phases_follow_each_other(self) -> None:
        days = [day for phase in Phase for day in days_of(phase, PLAN)]
        assert days == list(range(PLAN.opening_day, PLAN.bad_day))

    @pytest.mark.parametrize("seeds", [1, 3, 7])
    def test_the_equal_releases_are_shared_out(self, seeds: int) -> None:
        assert sum(PLAN.equal_releases_of(seed, seeds) for seed in range(1, seeds + 1)) == PLAN.equal_releases
