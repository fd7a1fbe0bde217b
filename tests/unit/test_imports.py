"""Jobs that only look at data or at the registry start without the packages that train and rank."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "lightgbm", "numba")


@pytest.mark.parametrize(
    ("job", "unneeded"),
    [
        ("prepare", (*HEAVY, "mlflow")),
        ("seed", (*HEAVY, "mlflow")),
        ("releases", HEAVY),
        ("rollback", HEAVY),
        ("train", ("lightgbm", "numba", "mlflow")),
    ],
)
def test_a_job_imports_what_it_needs(job: str, unneeded: tuple[str, ...]) -> None:
    program = f"import sys, training.jobs.{job}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert set(unneeded) & set(loaded) == set()
