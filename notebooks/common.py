"""Setup of every notebook: run in the repository's root, with the settings of the jobs. Import it first."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))  # makes recsys and training importable
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:6390/0")

from recsys.model.release import Release
from training.model_directory import latest_model
from training.release_manifest import describe_release
from training.settings import JobSettings

settings = JobSettings()


def latest_release() -> tuple[Path, Release]:
    """The model that was trained last, as it was measured, as release 1; and its directory."""
    directory = latest_model(settings.models_dir)
    describe_release(directory)
    return directory, Release.load(1, directory)
