"""Check the locked packages for known vulnerabilities: `python -m local.audit` asks osv.dev about every locked version.

A vulnerability fails the audit unless `audit-ignored.txt` lists it with a reason. If osv.dev cannot be reached, the
audit is skipped with a message.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

LOCKS = (Path("requirements-dev.lock"), Path("requirements-torch.txt"))
IGNORED = Path("audit-ignored.txt")
OSV_URL = "https://api.osv.dev/v1/query"
TIMEOUT_SECONDS = "5"
UNREACHABLE = "requests.exceptions."
"""Prefix of pip-audit's last line if the network fails."""


def audit(locks: Sequence[Path] = LOCKS, ignored: Path = IGNORED, osv_url: str = OSV_URL) -> tuple[bool, str]:
    """Whether the audit passed, and the message to print."""
    try:
        ignore_options = [option for name in _ignored(ignored) for option in ("--ignore-vuln", name)]
    except ValueError as error:
        return False, f"audit: failed: {error}"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.writelines(_without_hashes(lock) for lock in locks)
        pins.flush()
        completed = subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--requirement", pins.name, "--no-deps", "--disable-pip"),
                *("--vulnerability-service", "osv", "--osv-url", osv_url, "--timeout", TIMEOUT_SECONDS),
                *("--progress-spinner", "off", "--format", "json", *ignore_options),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    last_line = next(iter(completed.stderr.strip().splitlines()[-1:]), "")
    if not completed.stdout:
        if last_line.startswith(UNREACHABLE):
            return True, f"audit: skipped, because {osv_url} cannot be reached"
        return False, f"audit: failed: {last_line}"
    packages = json.loads(completed.stdout)["dependencies"]
    vulnerabilities = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", [])
    ]
    if vulnerabilities:
        return False, "\n".join(["audit: failed:", *vulnerabilities])
    return True, f"audit: no known vulnerabilities in {len(packages)} packages"


def _without_hashes(lock: Path) -> str:
    """pip-audit accepts requirements with hashes only if all have them, and torch has none."""
    return re.sub(r"\s*\\?\s*--hash=\S+", "", lock.read_text(encoding="utf-8"))


def _ignored(file: Path) -> list[str]:
    """The advisory ids of the `ID: reason` lines. Raises `ValueError` if a reason is missing."""
    names = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(":")
            if not reason.strip():
                raise ValueError(f"{file} gives no reason for {name.strip()}")
            names.append(name.strip())
    return names


if __name__ == "__main__":
    passed, message = audit()
    print(message)
    sys.exit(not passed)
