"""The notebooks: committed without outputs, and running one after the other on a small data set."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from local.settings import HOST
from tests.engines import local_settings, running

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_committed(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.timeout(600)
def test_they_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.mkdir()
    rows = [(user, (user * 7 + step * (1 + user % 3)) % 40, step) for user in range(60) for step in range(12)]
    lines = "".join(f"u{user},i{item},{1_700_000_000 + step}\n" for user, item, step in rows)
    (log / "interactions.csv").write_text("user_id,item_id,timestamp\n" + lines)
    items = "".join(f"i{item},Thing {item},Things\n" for item in range(40))
    (log / "items.csv").write_text("item_id,title,category\n" + items)
    settings = local_settings(tmp_path / "run")
    values = {
        "DATASET": "csv",
        "DATA_SOURCE": str(log),
        "DATA_DIR": str(tmp_path / "data"),
        "TRAIN_MINUTES": "0.05",
        "REDIS_URL": f"redis://{HOST}:{settings.redis_port}/0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with running(settings, "redis"):
        for path in NOTEBOOKS:
            notebook = nbformat.read(path, as_version=4)
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT / "notebooks")}}).execute()
            plots = [
                output
                for cell in notebook.cells
                for output in cell.get("outputs", [])
                if "image/png" in output.get("data", {})
            ]
            assert plots, f"{path.name} shows no plot"
