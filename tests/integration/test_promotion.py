"""Promotions on real stores: what they refuse, what they leave behind, and that there is one at a time."""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as redis_client

from local.settings import HOST, LocalSettings
from recsys.adapters.redis_keys import precomputed_key
from recsys.adapters.redis_users import History
from recsys.contracts.base import MAX_TOP_K
from recsys.errors import JobError
from recsys.model.files import WEIGHTS_FILE
from recsys.model.registry import CHAMPION, NEXT, PREVIOUS, ModelRegistry
from recsys.model.release_manifest import verify_release, weights_of
from tests import toy
from tests.engines import environment, eventually, free_ports, local_settings, running
from training.jobs.precompute import precompute
from training.jobs.promote import promote
from training.jobs.register import register
from training.jobs.releases import releases
from training.jobs.rollback import rollback
from training.jobs.seed import seed
from training.model_directory import final_fit_of
from training.precomputed_lists import LIST_LENGTH, RELEASES_KEPT
from training.promotion import lease, warm_up
from training.release_manifest import describe_release, registered_version
from training.settings import JobSettings


@dataclass(frozen=True)
class Shop:
    """Redis with histories, an empty MLflow, and a prepared toy shop. No service is running."""

    settings: LocalSettings
    jobs: JobSettings
    registry: ModelRegistry
    redis: "redis_client.Redis"

    def train(self, fingerprint: str, seed: int) -> int:
        """Train and register a model; returns its version."""
        shutil.rmtree(self.jobs.models_dir / fingerprint, ignore_errors=True)
        directory = toy.write_model(self.jobs, fingerprint, seed=seed)
        register(self.jobs)
        version = registered_version(self.registry, directory)
        assert version is not None
        return version

    def lists_of(self, user_id: str) -> dict[int, list[str]]:
        """The user's precomputed lists by release."""
        stored = self.redis.hgetall(precomputed_key(user_id))
        return {int(version): json.loads(text) for version, text in stored.items()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("promotion")
    settings = local_settings(folder / "run")
    with pytest.MonkeyPatch.context() as patch, running(settings, "redis", "mlflow"):
        for name in ("REDIS_URL", "MLFLOW_TRACKING_URI", "QDRANT_URL", "QDRANT_EDGE_DIR"):
            patch.setenv(name, environment(settings)[name])
        patch.delenv("RANKER_URL", raising=False)
        jobs = toy.job_settings(folder / "data")
        toy.write_prepared(jobs)
        seed(jobs)
        client = redis_client.Redis(HOST, settings.redis_port, decode_responses=True)
        yield Shop(settings, jobs, ModelRegistry(settings.mlflow_url), client)
        client.close()


@pytest.fixture(autouse=True)
def no_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_RANKER", "1")


@pytest.fixture
def dead_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator names a ranker, and nothing listens on its port."""
    monkeypatch.delenv("NO_RANKER")
    monkeypatch.setenv("RANKER_URL", f"http://{HOST}:{free_ports(1)[0]}")
    monkeypatch.setattr(warm_up, "WARM_SECONDS", 0.5)


@pytest.fixture
def champion(shop: Shop) -> int:
    """A champion without a history: no other version has an alias."""
    version = shop.train("champion", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_RANKER", "1")
        patch.setenv("FORCE", "1")
        promote(shop.jobs)
    for alias in set(shop.registry.aliases()) - {CHAMPION}:
        shop.registry.delete_alias(alias)
    return version


# --- register ---------------------------------------------------------------------------------------------------------


def test_the_same_settings_trained_again_are_another_version(shop: Shop, tmp_path: Path) -> None:
    first = shop.train("settings", seed=11)
    assert f"already version {first}" in register(shop.jobs)
    second = shop.train("settings", seed=12)
    assert second > first
    assert f"already version {second}" in register(shop.jobs)
    assert shop.train("settings", seed=11) == first, "the first weights are still registered"
    shop.registry.fetch(first, tmp_path)
    runs = shop.registry._client.search_runs([shop.registry._experiment("toy")], "tags.fingerprint = 'settings'")
    assert len(runs) == 2, "the run of the first version was deleted"


def test_a_version_serves_its_final_fit_and_is_measured_by_its_validation_fit(shop: Shop, tmp_path: Path) -> None:
    other = toy.write_model(shop.jobs, "other weights", seed=14)
    directory = toy.write_model(shop.jobs, "two fits", seed=13)
    shutil.copyfile(other / WEIGHTS_FILE, final_fit_of(directory) / WEIGHTS_FILE)
    register(shop.jobs)
    version = registered_version(shop.registry, directory)
    assert version is not None
    manifest, tags = shop.registry.manifest_of(version), shop.registry.tags_of(version)
    assert (manifest.weights_hash, manifest.validation_fit) == (weights_of(other), weights_of(directory))
    assert (tags["weights"], tags["validation_fit"]) == (weights_of(other), weights_of(directory))
    fetched = {"served": shop.registry.fetch, "measured": shop.registry.fetch_validation_fit}
    for name, fetch in fetched.items():
        (tmp_path / name).mkdir()
        fetch(version, tmp_path / name)
    assert verify_release(tmp_path / "served") == manifest
    assert verify_release(tmp_path / "measured").weights_hash == weights_of(directory)

    alone = shop.registry.register(describe_release(other), other, params={}, history=[], report=None)
    (tmp_path / "alone").mkdir()
    shop.registry.fetch_validation_fit(alone, tmp_path / "alone")
    assert verify_release(tmp_path / "alone").weights_hash == weights_of(other)
    shutil.rmtree(final_fit_of(directory))
    with pytest.raises(JobError, match="has no final fit; run `make final-fit` first"):
        register(shop.jobs)


# --- rankers ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("dead_ranker")
def test_a_ranker_that_is_named_and_refuses_connections_keeps_the_champion(shop: Shop, champion: int) -> None:
    version = shop.train("next", seed=2)
    lists = {user_id: shop.lists_of(user_id) for user_id in toy.USERS}
    with pytest.raises(JobError, match=rf"version {version} is not loaded by every ranker, the champion stays"):
        promote(shop.jobs)
    assert shop.registry.aliases() == {CHAMPION: champion}
    assert {user_id: shop.lists_of(user_id) for user_id in toy.USERS} == lists


def test_the_operator_has_to_say_that_there_is_no_ranker(
    shop: Shop, champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.train("next", seed=2)
    monkeypatch.delenv("NO_RANKER")
    with pytest.raises(JobError, match=r"RANKER_URL is not set.*NO_RANKER=1"):
        promote(shop.jobs)
    assert shop.registry.aliases() == {CHAMPION: champion}
    monkeypatch.setenv("NO_RANKER", "1")
    assert "no ranker was asked" in promote(shop.jobs)


# --- one at a time ----------------------------------------------------------------------------------------------------


def test_a_second_promotion_or_rollback_at_the_same_time_is_refused(
    shop: Shop, champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = shop.train("next", seed=2)
    may_finish = threading.Event()

    def store_lists_slowly(*_: object) -> str:
        assert may_finish.wait(60)
        return "no lists"

    monkeypatch.setattr("training.jobs.promote.store_lists", store_lists_slowly)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(promote, shop.jobs)
        try:
            eventually(lambda: shop.registry.aliases().get(NEXT) == version, "the first promotion did not start")
            for job in (promote, rollback):
                with pytest.raises(JobError, match=rf"'promote version {version}' \(process \d+ on .*\) is running"):
                    job(shop.jobs)
            assert shop.registry.aliases() == {CHAMPION: champion, NEXT: version}
        finally:
            may_finish.set()
    assert f"version {version} is the champion" in first.result()
    assert shop.registry.aliases() == {CHAMPION: version, PREVIOUS: champion}


def test_a_forced_rollback_takes_over_and_the_promotion_leaves_the_champion(
    shop: Shop, champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = shop.train("taken back", seed=6)
    promote(shop.jobs)
    third = shop.train("third", seed=3)
    monkeypatch.setattr("training.jobs.promote.store_lists", lambda *_: forced_rollback())

    def forced_rollback() -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FORCE", "1")
            return rollback(shop.jobs)

    with pytest.raises(JobError, match=f"the lease of promote version {third} is lost"):
        promote(shop.jobs)
    assert shop.registry.aliases() == {CHAMPION: champion, PREVIOUS: second}
    assert shop.registry.shared_tag(lease.LEASE_TAG) is None


# --- what was rolled back ---------------------------------------------------------------------------------------------


def test_a_release_that_was_rolled_back_needs_force_and_says_why(
    shop: Shop, champion: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = shop.train("regretted", seed=4)
    promote(shop.jobs)
    monkeypatch.setenv("REASON", "shows books to bakers")
    assert f"VERSION={version}` now requires FORCE=1" in rollback(shop.jobs)
    for chosen in ("", str(version)):  # the latest model is chosen by default
        monkeypatch.setenv("VERSION", chosen)
        with pytest.raises(
            JobError, match=rf"version {version} was rolled back on .* UTC: shows books to bakers; FORCE"
        ):
            promote(shop.jobs)
    assert shop.registry.aliases()[CHAMPION] == champion
    releases(shop.jobs)
    assert "rolled back" in next(line for line in capsys.readouterr().out.splitlines() if f"{version}  " in line)
    monkeypatch.setenv("FORCE", "1")
    promote(shop.jobs)
    assert shop.registry.aliases()[CHAMPION] == version
    assert "rolled_back" not in shop.registry.tags_of(version)


def test_a_second_rollback_undoes_the_first(shop: Shop, champion: int) -> None:
    version = shop.train("undone", seed=5)
    promote(shop.jobs)
    rollback(shop.jobs)
    assert "its rollback is undone" in rollback(shop.jobs)
    assert shop.registry.aliases() == {CHAMPION: version, PREVIOUS: champion}
    assert "rolled_back" not in {**shop.registry.tags_of(version), **shop.registry.tags_of(champion)}


# --- precomputed lists ------------------------------------------------------------------------------------------------


def test_a_promotion_stores_its_lists_beside_those_of_the_champion(shop: Shop, champion: int) -> None:
    before = {user_id: shop.lists_of(user_id) for user_id in toy.USERS}
    version = shop.train("next", seed=2)
    promote(shop.jobs)
    for user_id, history in toy.USERS.items():
        lists = shop.lists_of(user_id)
        assert lists[champion] == before[user_id][champion]
        assert len(lists[version]) == len(set(lists[version])) == len(toy.ITEM_IDS) - len(set(history))
        assert not set(lists[version]) & set(history)


def test_lists_are_long_enough_for_the_largest_page() -> None:
    assert LIST_LENGTH > MAX_TOP_K


def test_lists_of_a_few_releases_are_kept_and_the_champion_s_among_them(shop: Shop, champion: int) -> None:
    for seed_of_model in range(20, 20 + RELEASES_KEPT + 1):
        last = shop.train(f"model-{seed_of_model}", seed=seed_of_model)
        promote(shop.jobs)
    for user_id in toy.USERS:
        assert len(shop.lists_of(user_id)) == RELEASES_KEPT
        assert last in shop.lists_of(user_id)


def test_precompute_renews_only_lists_that_are_not_fresh(shop: Shop, champion: int) -> None:
    assert precompute(shop.jobs).startswith(f"0 lists by version {champion}")
    user_id = next(iter(toy.USERS))
    shop.redis.expire(precomputed_key(user_id), 3600)
    assert precompute(shop.jobs).startswith(f"1 lists by version {champion}")


def test_a_user_whose_items_the_release_does_not_know_has_no_list(
    shop: Shop, champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = [user_id for user_id in toy.USERS if shop.redis.delete(precomputed_key(user_id))]
    monkeypatch.setattr(
        "training.precomputed_lists.histories", lambda _, users: (History(user, ["?"], ["?"], []) for user in users)
    )
    assert f"{len(unknown)} users have no item that the version knows" in precompute(shop.jobs)
    assert not any(shop.lists_of(user_id) for user_id in unknown)


def test_only_the_users_who_were_active_last_get_lists(
    shop: Shop, champion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.redis.delete(*map(precomputed_key, toy.USERS))
    monkeypatch.setenv("PRECOMPUTE_USERS", "2")
    assert precompute(shop.jobs).startswith("2 lists")
    latest = sorted(toy.USERS, key=lambda user_id: len(toy.USERS[user_id]))[-2:]
    assert all(shop.lists_of(user_id) for user_id in latest)
