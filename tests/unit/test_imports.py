"""Processes start without the packages that they do not need."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "lightgbm", "numba")
ENVIRONMENT = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "RANKER_RELEASES_DIR": "/nowhere"}


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("training.jobs.prepare", (*HEAVY, "mlflow")),
        ("training.jobs.seed", (*HEAVY, "mlflow")),
        ("training.jobs.releases", HEAVY),
        ("training.jobs.rollback", HEAVY),
        ("training.jobs.train", ("lightgbm", "numba", "mlflow")),
        ("ranker_service.service", (*HEAVY, "mlflow", "fastapi")),  # in the supervisor; the worker creates the service
        ("orchestrator.app", ("qdrant_client",)),  # which only searches on a server need
        ("recsys.model.lightgbm_alone", ("sklearn", "pandas")),
    ],
)
def test_a_process_imports_what_it_needs(module: str, unneeded: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert set(unneeded) & set(ended.stdout.split()) == set()
