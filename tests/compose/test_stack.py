"""Builds, starts, fills, uses, restarts, scales and removes the stack of compose.yml on a real engine.

All tests use one stack and depend on the order of this file.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.tour import is_whole
from tests.compose.calls import WatchedCalls
from tests.compose.engine import LAB, NOT_RUN, ROOT, ensure_engine, ensure_images, label, needed_images, run
from tests.compose.stack import BUILD_SECONDS, SECRETS, Stack, eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

CALLS = {
    ("orchestrator", "feature_service"),
    ("orchestrator", "ranker_service"),
    ("orchestrator", "qdrant"),
    ("feature_service", "redis"),
    ("collector", "redis"),
    ("collector", "rustfs"),
    ("ranker_service", "mlflow"),
    ("ranker_service", "feature_service"),
    ("mlflow", "mysql"),
    ("mlflow", "rustfs"),
    ("guard", "mlflow"),
    ("guard", "rustfs"),
    ("jobs", "redis"),
    ("jobs", "qdrant"),
    ("jobs", "mlflow"),
    ("jobs", "ranker_service"),
    ("jobs", "rustfs"),
    ("prometheus", "orchestrator"),
    ("prometheus", "feature_service"),
    ("prometheus", "collector"),
    ("prometheus", "guard"),
    ("prometheus", "ranker_service"),
}
"""All allowed calls between services."""
BRIEF_CALLS = {call for call in CALLS if call[0] == "jobs"} | {("guard", "rustfs")}
"""A job may end between two observations. Its results show that it reached its stores. The guard reads the event
log only while a promotion ramps."""

SCRAPED = {"orchestrator", "feature_service", "ranker_service", "collector", "guard"}

AFTER_TRAFFIC = {"tandem_feature_psi", "tandem_release_click_through", "tandem_guard_difference"}
"""Metrics of the dashboard that appear after some hundred requests, after a report, or while a promotion ramps."""

PUBLIC_BASE_BYTES = 131_000_000
"""The published python:3.11-slim-bookworm. The stand-in is larger."""
IMAGES = ("orchestrator", "feature_service", "ranker_service", "collector", "mlflow", "jobs")
MOST_BYTES = {"orchestrator": 400_000_000, "ranker_service": 1_600_000_000}
USER = "1"
VISITORS, VISITS = 30, 3
COUNT_VISITS = """
import os, polars as pl
log = pl.read_parquet(f"data/processed/{os.environ['DATASET']}/interactions.parquet")
print(log["user_id"].str.starts_with("visitor-").sum())
"""
BURST = 120
PRINT_METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"
AT_ONCE = 12
ROUTES = {"ranker_service": "/v1/rank", "feature_service": "/v1/users/"}
"""The route of each scaled service that is called once per recommendation."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    ensure_engine()
    sample = LAB.parents[1] / "data" / "ml-100k"
    settings = {"DATASET": "ml-100k", "DATA_SOURCE": str(sample)} if sample.exists() else {"DATASET": "shop"}
    # A long deadline, because other work may share this machine and the stand-in searches exactly.
    settings |= {"TRAIN_MINUTES": "0.1", "ORCHESTRATOR_DEADLINE_MS": "3000", "RANKER_POLL_SECONDS": "1"}
    settings |= {"ORCHESTRATOR_RECALL_SAMPLE": "1", "COLLECTOR_SECONDS": "1", "REPORT_SECONDS": "2"}
    stack = Stack(tmp_path_factory.mktemp("data"), settings)
    images = ensure_images(stack.env)
    for image, is_standin in images.items():
        say(f"{image}: {'a STAND-IN' if is_standin else 'the real image'}")
    if any(images.values()):
        stack.env["COMPOSE_FILE"] = "compose.yml:tests/compose/standins.yml"
    version = run("docker", "info", "-f", "{{.ServerVersion}}").stdout.strip()
    say(f"grafana is not started; data set {settings['DATASET']}; engine {version}")
    try:
        started = time.monotonic()
        stack.compose("build", timeout=BUILD_SECONDS)
        say(f"built in {time.monotonic() - started:.0f} s")
        started = time.monotonic()
        stack.up()
        say(f"healthy in {time.monotonic() - started:.0f} s")
        yield stack
    except BaseException:
        say(stack.compose("logs", "--tail", "15"))
        raise
    finally:
        stack.remove()
        say("removed completely")


def say(text: str) -> None:
    print(f"compose: {text}", flush=True)


def test_compose_accepts_its_file_without_a_word(stack: Stack) -> None:
    said = run("docker", "compose", "--profile", "jobs", "--profile", "observability", "config", "-q", env=stack.env)
    assert (said.stdout, said.stderr) == ("", "")


def test_a_missing_secret_stops_the_start_and_says_how_to_set_it(stack: Stack) -> None:
    for secret in SECRETS:
        env = {name: value for name, value in stack.env.items() if name != secret}
        said = run("docker", "compose", "config", "-q", env=env, check=False)
        assert said.returncode != 0
        assert secret in said.stderr
        assert "make up" in said.stderr


def test_every_container_is_confined(stack: Stack) -> None:
    standins = "standins.yml" in stack.env.get("COMPOSE_FILE", "")
    for_products = stack.env | {"COMPOSE_FILE": "compose.yml"}
    config = json.loads(run("docker", "compose", "config", "--format", "json", env=for_products).stdout)
    for name, service in config["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert "cap_add" not in service, name
    for name, container in stack.containers().items():
        host, service = container["HostConfig"], container["Config"]["Labels"]["com.docker.compose.service"]
        assert host["Memory"] > 0, name
        assert host["RestartPolicy"]["Name"] == "unless-stopped", name
        assert host["LogConfig"]["Config"]["max-size"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert container["Config"]["Healthcheck"]["Test"], name
        if not (standins and service in ("qdrant", "rustfs")):  # their public images set a user
            assert container["Config"]["User"].split(":")[0] not in ("", "0", "root"), name


def test_only_the_api_and_mlflow_are_published_and_on_this_machine_only(stack: Stack) -> None:
    published = {
        container["Config"]["Labels"]["com.docker.compose.service"]: [binding["HostIp"] for binding in bindings]
        for container in stack.containers().values()
        for bindings in container["NetworkSettings"]["Ports"].values()
        if bindings
    }
    assert published == {"orchestrator": ["127.0.0.1"], "mlflow": ["127.0.0.1"]}


def test_the_api_asks_for_the_key(stack: Stack) -> None:
    for headers in ({"X-API-Key": ""}, {"X-API-Key": "another-key-of-some-length"}):
        assert stack.api.get("/v1/popular", headers=headers).status_code == 401
    assert stack.api.get("/v1/popular").status_code == 200


def test_images_are_no_larger_than_agreed(stack: Stack) -> None:
    extra = PUBLIC_BASE_BYTES - size("python:3.11-slim-bookworm")
    sizes = {name: size(f"tandem/{name}") + extra for name in IMAGES}
    say(f"MB on the public base: { ({name: round(each / 1e6) for name, each in sizes.items()}) }")
    assert {name for name, most in MOST_BYTES.items() if sizes[name] > most} == set()
    packages = run("docker", "run", "--rm", "tandem/orchestrator", "ls", "/venv/lib/python3.11/site-packages")
    assert {"torch", "mlflow"} & set(packages.stdout.split()) == set()


def size(image: str) -> int:
    return int(run("docker", "image", "inspect", "-f", "{{.Size}}", image).stdout)


def test_the_first_release_is_picked_up_without_a_restart(stack: Stack) -> None:
    unready = stack.api.get("/readyz")
    assert (unready.status_code, unready.json()["degraded"]) == (200, True)
    assert "no release" in unready.json()["dependencies"]["ranker"]
    assert stack.answer(USER)["release"] is None
    before = {name: container["State"]["StartedAt"] for name, container in stack.containers().items()}

    with WatchedCalls(stack.project) as watched:
        started = time.monotonic()
        say(stack.make("pipeline"))
        say(f"pipeline in {time.monotonic() - started:.0f} s")
        eventually(lambda: is_whole(stack.api.get("/readyz")))
        stack.compose("up", "--detach", "--wait", "prometheus")
        some_user = user_of(stack)
        eventually(lambda: stack.answer(some_user)["tier"] == "personalized")
        eventually(lambda: scraped(stack) >= SCRAPED)

    after = {name: container["State"]["StartedAt"] for name, container in stack.containers().items()}
    assert {name: after[name] for name in before} == before
    assert watched.calls - CALLS == set()
    assert CALLS - BRIEF_CALLS - watched.calls == set()


def user_of(stack: Stack) -> str:
    """A user of the data set with a history."""
    dataset = stack.env["DATASET"]
    code = f"import polars as pl; print(pl.read_parquet('data/processed/{dataset}/interactions.parquet')['user_id'][0])"
    return stack.compose("run", "--rm", "--no-deps", "jobs", "python", "-c", code).split()[-1]


def scraped(stack: Stack) -> set[str]:
    answer = stack.compose("exec", "-T", "prometheus", "wget", "-qO-", "http://127.0.0.1:9090/api/v1/query?query=up")
    return {each["metric"]["job"] for each in json.loads(answer)["data"]["result"] if each["value"][1] == "1"}


def test_prometheus_has_what_the_dashboard_shows(stack: Stack) -> None:
    metrics = set()
    for dashboard in (ROOT / "observability/grafana/dashboards").glob("*.json"):
        for panel in json.loads(dashboard.read_text())["panels"]:
            for target in panel["targets"]:
                metrics |= set(re.findall(r"\btandem_\w+", target["expr"]))
    metrics -= AFTER_TRAFFIC
    assert len(metrics) >= 5
    url = "http://127.0.0.1:9090/api/v1/label/__name__/values"

    def missing() -> set[str]:
        return metrics - set(json.loads(stack.compose("exec", "-T", "prometheus", "wget", "-qO-", url))["data"])

    eventually(lambda: not missing())


def test_an_event_is_in_the_next_answer(stack: Stack) -> None:
    first = stack.answer("new-user", top_k=5)
    assert first["tier"] == "popular"
    liked = first["recommendations"][0]["item_id"]
    stored = stack.api.post("/v1/events", json=[{"user_id": "new-user", "item_id": liked, "event": "view"}])
    assert stored.status_code == 200
    following = stack.answer("new-user", top_k=50)
    assert following["tier"] == "personalized"
    assert liked not in items_of(following)


def test_what_was_done_and_shown_is_collected(stack: Stack) -> None:
    url = "http://127.0.0.1:9090/api/v1/query?query=tandem_log_files_total"

    def collected() -> bool:
        found = json.loads(stack.compose("exec", "-T", "prometheus", "wget", "-qO-", url))["data"]["result"]
        return {each["metric"]["table"] for each in found if float(each["value"][1]) > 0} == {"events", "impressions"}

    eventually(collected, seconds=180)


def serves_no_ranges(stack: Stack) -> bool:
    """Whether RustFS is a stand-in."""
    return any(label(image) for image in needed_images(stack.env) if image.startswith("rustfs/"))


def test_what_was_collected_is_exported(stack: Stack) -> None:
    if serves_no_ranges(stack):
        pytest.skip("the stand-in for RustFS does not serve ranges of an object, which reading Parquet takes")
    found = re.search(r"export: ([\d,]+) events and ([\d,]+) impressions", stack.make("export"))
    assert found is not None
    assert "0" not in found.groups()


def test_what_visitors_do_trains_the_next_release_and_judges_it(stack: Stack) -> None:
    stack.add("tests/compose/loop.yml")
    if serves_no_ranges(stack):
        stack.keep_events_in_a_folder()
        eventually(lambda: is_whole(stack.api.get("/readyz")))
    release = champion(stack)
    stack.env |= {"RAMP": "100", "RETRAIN_AFTER_EVENTS": str(VISITORS * VISITS)}
    started = time.monotonic()
    stack.compose("up", "--detach", "--wait", "--no-deps", "retrainer")
    for number in range(VISITORS):
        for _ in range(VISITS):
            visit(stack, f"visitor-{number}")
    eventually(lambda: champion(stack) > release, seconds=900)
    eventually(lambda: stack.answer("visitor-0")["release"] > release)
    say(f"retrained in {time.monotonic() - started:.0f} s")
    learned = stack.compose("exec", "-T", "retrainer", "python", "-c", COUNT_VISITS)
    assert int(learned) == VISITORS * VISITS
    visit(stack, "visitor-0")
    eventually(lambda: clicked(stack).get(champion(stack)) == 1)
    assert clicked(stack)[release] == VISITORS * VISITS
    stack.compose("rm", "--stop", "--force", "retrainer")


def visit(stack: Stack, user_id: str) -> None:
    """Look at the first item that is recommended."""
    shown = stack.answer(user_id)
    seen = {"user_id": user_id, "item_id": items_of(shown)[0], "event": "view"}
    seen["recommendation_id"] = shown["recommendation_id"]
    stack.api.post("/v1/events", json=[seen]).raise_for_status()


def clicked(stack: Stack) -> dict[int, int]:
    """In the last report, by release."""
    found = stack.api.get("/v1/reports/releases").raise_for_status().json()["releases"]
    return {each["release"]: each["clicked"] for each in found}


def test_state_survives_a_restart_of_every_container(stack: Stack) -> None:
    before = stack.answer("new-user", top_k=20)
    release = before["release"]
    for name, container in stack.containers().items():
        restarted = container["State"]["StartedAt"]
        run("docker", "restart", "--time", "3", name)
        assert stack.containers()[name]["State"]["StartedAt"] != restarted
        eventually(lambda: is_whole(stack.api.get("/readyz")))
        eventually(lambda: stack.answer("new-user")["tier"] == "personalized")
        say(f"{name} was restarted")
    stack.up()
    eventually(lambda: champion(stack) == release)
    after = eventually(lambda: stack.answer("new-user", top_k=20))
    assert items_of(after) == items_of(before)


def items_of(answer: dict[str, Any]) -> list[str]:
    return [each["item_id"] for each in answer["recommendations"]]


def champion(stack: Stack) -> int:
    params = {"name": "two_tower", "alias": "champion"}
    response = stack.mlflow.get("/api/2.0/mlflow/registered-models/alias", params=params)
    return int(response.raise_for_status().json()["model_version"]["version"])


def test_replicas_share_the_load(stack: Stack) -> None:
    stack.up("--no-recreate", "--scale", "ranker_service=2", "--scale", "feature_service=2")

    def shared() -> bool:
        before = {service: served(stack, service, route) for service, route in ROUTES.items()}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda _: stack.answer("new-user"), range(BURST)))
        assert {answer["tier"] for answer in answers} == {"personalized"}
        counts = {service: served(stack, service, route) - before[service] for service, route in ROUTES.items()}
        say(f"requests by replica: {counts}")
        return all(len(count) == 2 and min(count.values()) > BURST / 10 for count in counts.values())

    eventually(shared)


def served(stack: Stack, service: str, route: str) -> Counter[str]:
    """The number of requests of a route in the metrics of each replica."""
    counts = Counter[str]()
    for name in stack.containers(service):
        for line in run("docker", "exec", name, "python", "-c", PRINT_METRICS).stdout.splitlines():
            if line.startswith("tandem_requests_total{") and f'route="{route}' in line:
                counts[name] += int(float(line.split()[-1]))
    return counts


def test_grafana_is_given_what_it_needs() -> None:
    folder = ROOT / "observability" / "grafana"
    dashboards = [json.loads(file.read_text()) for file in (folder / "dashboards").glob("*.json")]
    assert [dashboard["uid"] for dashboard in dashboards] == ["tandem"]
    for panel in dashboards[0]["panels"]:
        assert panel["datasource"]["uid"] == "prometheus"
        assert all(target["expr"] for target in panel["targets"])
    datasource = (folder / "provisioning/datasources/prometheus.yml").read_text()
    assert "uid: prometheus" in datasource
    assert "http://prometheus:9090" in datasource
    assert "path: /etc/grafana/dashboards" in (folder / "provisioning/dashboards/tandem.yml").read_text()
    assert {"grafana"} == NOT_RUN
