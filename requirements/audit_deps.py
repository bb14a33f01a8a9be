"""Looks the locked packages up in OSV, the database of known vulnerabilities (osv.dev).

Exit status 0 says that every package was looked up and none is vulnerable, 1 that
one is, and 2 that not all could be looked up, as without a network: which is no
good news, and not passed off as such.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LOCKS = tuple(sorted(HERE.glob("*.txt")))

VULNERABLE, NOT_CHECKED = 1, 2


def audit(lock: Path) -> int:
    """Look up the packages of a lock file, print what came of it, and return a status."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes"]
    options = ["--disable-pip", "--vulnerability-service", "osv", "--format", "json"]
    done = subprocess.run(
        [*command, *options, "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        # pip-audit ends with the same status for a vulnerability and for its own failure.
        reason = (done.stderr.strip() or "no answer").splitlines()[-1]
        if "ConnectionError" in reason or "Timeout" in reason:
            reason = "osv.dev cannot be reached from here; try again where a network allows it"
        print(f"{lock.name}: NOT CHECKED: {reason}")
        return NOT_CHECKED
    status = 0
    for package in packages:
        if "skip_reason" in package:
            print(f"{lock.name}: NOT CHECKED: {package['name']}: {package['skip_reason']}")
            status = status or NOT_CHECKED
        for found in package.get("vulns", ()):
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            name = f"{package['name']} {package['version']}"
            print(f"{lock.name}: VULNERABLE: {name}: {found['id']}, fixed in {fixed}")
            status = VULNERABLE
    if status == 0:
        print(f"{lock.name}: {len(packages)} packages, no known vulnerability")
    return status


def main() -> int:
    """Audit every lock file; a vulnerability outweighs what could not be looked up."""
    statuses = [audit(lock) for lock in LOCKS]
    return VULNERABLE if VULNERABLE in statuses else max(statuses)


if __name__ == "__main__":
    sys.exit(main())
