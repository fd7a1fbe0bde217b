"""What is known against the locked packages: `python -m local.audit` asks osv.dev about every line of constraints.txt.

A found vulnerability fails, unless `audit-ignored.txt` names it with a reason. Where osv.dev cannot be reached nothing
is known, which one line says.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path("constraints.txt")
IGNORED = Path("audit-ignored.txt")
OSV_URL = "https://api.osv.dev/v1/query"
TIMEOUT_SECONDS = "5"
UNREACHABLE = "requests.exceptions."
"""pip-audit ends with one of these where there is no network."""


def audit(lock: Path = LOCK, ignored: Path = IGNORED, osv_url: str = OSV_URL) -> tuple[bool, str]:
    """Whether nothing is wrong as far as is known, and the lines that say it."""
    try:
        passed_over = [word for name in _ignored(ignored) for word in ("--ignore-vuln", name)]
    except ValueError as error:
        return False, f"audit: failed: {error}"
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps", "--disable-pip"),
            *("--vulnerability-service", "osv", "--osv-url", osv_url, "--timeout", TIMEOUT_SECONDS),
            *("--progress-spinner", "off", "--format", "json", *passed_over),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    last_line = next(iter(ended.stderr.strip().splitlines()[-1:]), "")
    if not ended.stdout:
        if last_line.startswith(UNREACHABLE):
            return True, f"audit: skipped, as {osv_url} cannot be reached"
        return False, f"audit: failed: {last_line}"
    packages = json.loads(ended.stdout)["dependencies"]
    found = [
        f"{each['name']} {each['version']}: {vulnerability['id']}, "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for each in packages
        for vulnerability in each.get("vulns", [])
    ]
    if found:
        return False, "\n".join(["audit: failed:", *found])
    return True, f"audit: nothing is known against {len(packages)} packages"


def _ignored(file: Path) -> list[str]:
    """The advisories of `ID: reason` lines. Raises `ValueError` where a reason is missing."""
    names = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition(":")
            if not reason.strip():
                raise ValueError(f"{file} gives no reason for {name.strip()}")
            names.append(name.strip())
    return names


if __name__ == "__main__":
    fine, said = audit()
    print(said)
    sys.exit(not fine)
