"""The locks hold a hash for every package, and their audit is believed only when there is one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "requirements"
LOCKS = sorted(FOLDER.glob("*.txt"))
SAFE = {"name": "pillow", "version": "13.0.0", "vulns": []}
VULNERABLE = {
    "name": "numpy",
    "version": "2.1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1.1", "2.2"]}],
}
SKIPPED = {"name": "rich", "skip_reason": "Dependency not found"}
NO_NETWORK = "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='x', port=443): ..."


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_one_version_and_a_hash(lock: Path) -> None:
    packages = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert packages
    for package in packages:
        assert re.match(r"[\w.\[\]-]+==[\w.+]+( ;| \\)", package), package[:80]
        assert "--hash=sha256:" in package, package[:80]


def audit(tmp_path: Path, answer: str, errors: str = "") -> subprocess.CompletedProcess[str]:
    """Run the audit with a pip-audit that gives an answer."""
    (tmp_path / "pip_audit.py").write_text(
        f"import sys; print({answer!r}); print({errors!r}, file=sys.stderr); sys.exit(1)"
    )
    return subprocess.run(
        [sys.executable, FOLDER / "audit_deps.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )


@pytest.mark.parametrize(
    ("packages", "status", "says"),
    [
        ([SAFE], 0, "2 packages, no known vulnerability"),
        ([SAFE, VULNERABLE], 1, "VULNERABLE: numpy 2.1.0: PYSEC-1, fixed in 2.1.1, 2.2"),
        ([SAFE, SKIPPED], 2, "NOT CHECKED: rich: Dependency not found"),
        ([VULNERABLE, SKIPPED], 1, "VULNERABLE: numpy"),
    ],
)
def test_an_audit_tells_what_is_vulnerable_and_what_was_not_looked_up(
    packages: list[object], status: int, says: str, tmp_path: Path
) -> None:
    packages = [SAFE, *packages] if packages == [SAFE] else packages
    done = audit(tmp_path, json.dumps({"dependencies": packages, "fixes": []}))
    assert done.returncode == status
    assert len(re.findall(re.escape(says), done.stdout)) == len(LOCKS)


def test_without_a_network_an_audit_says_so_and_is_no_success(tmp_path: Path) -> None:
    done = audit(tmp_path, "", NO_NETWORK)
    assert done.returncode == 2
    assert done.stdout.splitlines() == [
        f"{lock.name}: NOT CHECKED: osv.dev cannot be reached from here; "
        "try again where a network allows it"
        for lock in LOCKS
    ]


def test_an_audit_that_cannot_run_says_why(tmp_path: Path) -> None:
    done = audit(tmp_path, "", "ModuleNotFoundError: No module named 'pip_audit'")
    assert done.returncode == 2
    assert "base.txt: NOT CHECKED: ModuleNotFoundError" in done.stdout
