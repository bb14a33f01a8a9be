"""The audit as one HTML page that shows the worst cases as pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medkit.datasets.audit import PROBLEMS, REMARKS, Audit, Finding
from medkit.datasets.folders import summed_up
from medkit.errors import ImageError
from medkit.extras import require
from medkit.files import write_text
from medkit.images.reading import open_image
from medkit.reports.html import render, thumbnail_uri

_CASES = 12  # of each kind
_PICTURES = 4  # of each case


@dataclass(frozen=True)
class ClassRow:
    """The number of images of one class in each split, and their sources."""

    label: str
    counts: tuple[int, ...]
    sources: str


@dataclass(frozen=True)
class Case:
    """A finding with pictures of its images, as addresses."""

    pictures: tuple[str, ...]
    detail: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """The findings of one kind: how many there are, and those that are shown."""

    title: str
    found: int
    cases: tuple[Case, ...]


def write_audit_page(audit: Audit, path: Path) -> None:
    """Write an audit as HTML that holds its pictures, atomically.

    Raises
    ------
    MissingExtraError
        If Jinja2 is not installed.
    """
    require("write a page", "jinja2")
    kinds = {**PROBLEMS, **REMARKS}
    labels = dict.fromkeys(label for classes in audit.counts.values() for label in classes)
    page = render(
        "audit.html.jinja",
        audit=audit,
        left_out=summed_up(audit.left_out),
        name=audit.root.resolve().name,
        kinds=kinds,
        classes=[_class_row(audit, label) for label in labels],
        sizes=list(audit.sizes.items())[:5],
        sections=[
            Section(
                title=meaning,
                found=len(audit.of(kind)),
                cases=tuple(_case(audit.root, finding) for finding in audit.of(kind)[:_CASES]),
            )
            for kind, meaning in kinds.items()
            if audit.of(kind)
        ],
    )
    write_text(path, page)


def _class_row(audit: Audit, label: str) -> ClassRow:
    found: Counter[str] = Counter()
    for classes in audit.sources.values():
        found.update(classes.get(label, {}))
    return ClassRow(
        label=label,
        counts=tuple(classes.get(label, 0) for classes in audit.counts.values()),
        sources=", ".join(f"{source} {count}" for source, count in found.items()),
    )


def _case(root: Path, finding: Finding) -> Case:
    pictures = []
    for name in finding.images[:_PICTURES]:
        try:
            pictures.append(thumbnail_uri(open_image(root / name)))
        except ImageError:
            continue  # that it cannot be shown is the finding
    return Case(tuple(pictures), finding.detail, finding.images)
