"""The alert rules: read by Prometheus, about metrics that are there, and of use to whoever is paged. And the dashboard:
about metrics that are there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import events.bootstrap  # noqa: F401  # registers the metrics
import feature_service.bootstrap  # noqa: F401
import orchestrator.bootstrap  # noqa: F401
import ranker_service.activity_watch
import ranker_service.skew_monitor  # noqa: F401
import training.guard.guard
import training.retraining.retrainer  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "observability/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}


def exported() -> set[str]:
    """Every name under which Prometheus gets our metrics."""
    suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}
    return {metric.name + suffix for metric in REGISTRY.collect() for suffix in suffixes.get(metric.type, ())}


def test_prometheus_is_given_the_rules() -> None:
    configured = yaml.safe_load((ROOT / "observability/prometheus.yml").read_text())["rule_files"]
    compose = yaml.safe_load((ROOT / "compose.yml").read_text())["services"]["prometheus"]
    assert configured == ["alerts.yml"]
    assert "./observability/alerts.yml:/etc/prometheus/alerts.yml:ro" in compose["volumes"]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_is_about_metrics_that_are_exported(rule: Any) -> None:
    named = set(re.findall(r"\btandem_\w+", rule["expr"]))
    assert named
    assert named - exported() == set()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_waits_and_says_what_it_means_and_what_to_do(rule: Any) -> None:
    assert rule["for"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert "make " in rule["annotations"]["description"]
    assert re.search(r"\$(labels|value)\b", rule["annotations"]["summary"])


PANELS = {
    panel["title"]: panel
    for file in (ROOT / "observability/grafana/dashboards").glob("*.json")
    for panel in json.loads(file.read_text())["panels"]
}


@pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
def test_a_panel_is_about_metrics_that_are_exported(panel: Any) -> None:
    shown = " ".join(target["expr"] for target in panel["targets"])
    assert re.search(r"\b(tandem_\w+|up)\b", shown)
    assert set(re.findall(r"\btandem_\w+", shown)) - exported() == set()
