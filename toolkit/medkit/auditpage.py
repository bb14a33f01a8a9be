"""The audit as one HTML page with the worst cases as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medkit.audit import PROBLEMS, REMARKS, Audit, Finding
from medkit.bundles import replacing
from medkit.errors import ImageError
from medkit.images import open_image
from medkit.pages import render, thumbnail_uri

_CASES = 12  # of each kind
_PICTURES = 4  # of each case


def write_audit_page(audit: Audit, path: Path) -> None:
    """Write an audit as HTML that holds its pictures, atomically.

    Raises
    ------
    MissingExtraError
        If Jinja2 is not installed.
    """
    kinds = {**PROBLEMS, **REMARKS}
    labels = dict.fromkeys(label for classes in audit.counts.values() for label in classes)
    page = render(
        "audit.html.jinja",
        audit=audit,
        name=audit.root.resolve().name,
        kinds=kinds,
        classes=[_class_row(audit, label) for label in labels],
        sizes=list(audit.sizes.items())[:5],
        sections=[
            {
                "title": meaning,
                "found": len(audit.of(kind)),
                "cases": [_case(audit.root, finding) for finding in audit.of(kind)[:_CASES]],
            }
            for kind, meaning in kinds.items()
            if audit.of(kind)
        ],
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _class_row(audit: Audit, label: str) -> dict[str, Any]:
    found: dict[str, int] = {}
    for classes in audit.sources.values():
        for source, count in classes.get(label, {}).items():
            found[source] = found.get(source, 0) + count
    return {
        "label": label,
        "counts": [classes.get(label, 0) for classes in audit.counts.values()],
        "sources": ", ".join(f"{source} {count}" for source, count in found.items()),
    }


def _case(root: Path, finding: Finding) -> dict[str, Any]:
    pictures = []
    for name in finding.images[:_PICTURES]:
        try:
            pictures.append(thumbnail_uri(open_image(root / name)))
        except ImageError:
            continue  # that it cannot be shown is the finding
    return {"pictures": pictures, "detail": finding.detail, "names": finding.images}
