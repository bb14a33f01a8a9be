"""The page of an audit: what it shows, and that it needs nothing from elsewhere."""

from __future__ import annotations

import json
import os
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from auditfiles import broken, clean, copy, drawing, everything, found
from medkit.datasets.audit import PROBLEMS, REMARKS, Audit, audit_folder, write_audit_json
from medkit.reports.audit_page import write_audit_page


class Page(HTMLParser):
    """What a browser makes of a page: its elements, its text, its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.names.add(name)
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(audit: Audit, path: Path) -> tuple[str, Page]:
    write_audit_page(audit, path)
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_shows_every_kind_with_pictures(tmp_path: Path) -> None:
    _, page = page_of(audit_folder(everything(tmp_path / "data")), tmp_path / "audit.html")
    told = " ".join(page.text.split())
    assert "Audit of data" in told
    assert "9 images. 3 problems" in told
    for meaning in {**PROBLEMS, **REMARKS}.values():
        assert meaning in told
        assert meaning.capitalize() in told
    assert "test/dog/copy.png; train/cat/1.png" in told
    assert "train/cat/broken.png" in told
    # Two pictures of each pair; what is broken has none.
    assert len(page.addresses) == 2 * 5


def test_the_page_of_a_clean_folder_says_so_and_has_no_picture(tmp_path: Path) -> None:
    _, page = page_of(audit_folder(clean(tmp_path / "data")), tmp_path / "audit.html")
    assert "No problem that forbids training" in " ".join(page.text.split())
    assert page.addresses == []


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text, page = page_of(audit_folder(everything(tmp_path / "data")), tmp_path / "audit.html")
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for word in ("http:", "https:", "url(", "@import", str(tmp_path)):
        assert word not in text


def test_the_page_shows_names_as_they_are_and_runs_none_of_them(tmp_path: Path) -> None:
    label, name = "<script>alert(1)", "<img src=x onerror=alert(2)>\n&amp;\"'.png"
    broken(tmp_path / "<b>data" / label / name)
    copy(
        drawing(tmp_path / "<b>data/cat" / name, 1),
        tmp_path / "<b>data" / label / f"copy of {name}",
    )
    text, page = page_of(audit_folder(tmp_path / "<b>data"), tmp_path / "audit.html")
    assert f"{label}/{name}" in page.text
    assert f"{label} and cat" in page.text
    assert "Audit of <b>data" in page.text
    assert not page.tags & {"script", "b"}
    assert "onerror" not in page.names
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "<script" not in text


def test_the_page_shows_the_first_cases_and_says_of_how_many(tmp_path: Path) -> None:
    for seed in range(14):
        first = drawing(tmp_path / f"data/cat/{seed:02}.png", seed)
        for number in range(4):
            copy(first, tmp_path / f"data/cat/{seed:02}_{number}.png")
    audit = audit_folder(tmp_path / "data")
    assert found(audit) == {"duplicate": 14}
    _, page = page_of(audit, tmp_path / "audit.html")
    assert "14 found, 12 shown." in page.text
    assert len(page.addresses) == 12 * 4
    assert "cat/11_3.png" in page.text
    assert "cat/12" not in page.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_reports_are_written_even_if_names_are_not_utf_8(
    tmp_path: Path,
) -> None:
    broken(tmp_path / "data/cat" / os.fsdecode(b"\xff.png"))
    audit = audit_folder(tmp_path / "data")
    write_audit_json(audit, tmp_path / "audit.json")
    write_audit_page(audit, tmp_path / "audit.html")
    assert json.loads((tmp_path / "audit.json").read_text())["summary"]["unreadable"] == 1
    assert ".png" in (tmp_path / "audit.html").read_text()
