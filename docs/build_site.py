"""Builds the documentation site: ``build/site``, or ``DIR/site`` if a folder is given.

The pages are the repository's own Markdown files at their own paths, so that
a link leads to the same place on the site as in the repository. A link that
leads nowhere is an error. No page loads anything from another host.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "*.md",
    "LICENSE",
    "docs/*.md",
    "docs/*.svg",
    "docs/*/*.png",
    "docs/*/*.svg",
    "tests/samples/README.md",
    "trained/*/*.md",
    "trained/*/*.png",
)
"""What the site is made of; the rest of the repository is left out."""

LONGEST = 120
"""Seconds that a build may take; it takes about one."""


def build(folder: Path) -> int:
    """Build the site in ``folder``; return the exit status of the generator."""
    for made in ("pages", "site"):
        shutil.rmtree(folder / made, ignore_errors=True)
    for pattern in PAGES:
        for path in ROOT.glob(pattern):
            copy = folder / "pages" / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    config = shutil.copy(ROOT / "docs" / "site.toml", folder / "zensical.toml")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(config)]
    return subprocess.run(command, cwd=folder, timeout=LONGEST, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build"))
