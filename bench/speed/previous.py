"""Another version of Tandem, to compare with: its code, in a folder of its own."""

import shutil
import subprocess
from pathlib import Path

from recsys.errors import JobError


def code_of(commit: str, parent: Path) -> Path:
    """The files of a commit or tag of this repository. Raises JobError if there is none with this name."""
    resolved = subprocess.run(["git", "rev-parse", "--verify", f"{commit}^{{commit}}"], capture_output=True, text=True)
    if resolved.returncode:
        raise JobError(f"BENCH_PREVIOUS: expected a commit or tag of this repository; got {commit!r}")
    folder = parent / f"code-{resolved.stdout.strip()[:12]}"
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with subprocess.Popen(["git", "archive", commit], stdout=subprocess.PIPE) as archive:
            subprocess.run(["tar", "--extract", "--directory", str(partial)], stdin=archive.stdout, check=True)
        partial.rename(folder)
    return folder.resolve()
