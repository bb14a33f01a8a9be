"""Pages: what a template may say, what is escaped, and pictures that need no file."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from PIL import Image

import medkit.reports
from medkit.errors import MissingExtraError
from medkit.reports.html import picture_uri, png_uri, render, thumbnail_uri

TEMPLATES = Path(medkit.reports.__file__).parent / "templates"


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Give a dictionary that stands for the package's templates."""
    made: dict[str, str] = {}
    monkeypatch.setattr(jinja2, "PackageLoader", lambda _: jinja2.DictLoader(made))
    return made


def decoded(address: str, kind: str) -> Image.Image:
    """Return the picture that an address holds."""
    head, _, body = address.partition(",")
    assert head == f"data:image/{kind};base64"
    image = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
    assert image.format == kind.upper()
    return image


# Templates


def test_a_template_is_filled_in(templates: dict[str, str]) -> None:
    templates["a.md.jinja"] = "{{ name }}: {{ '%.2f' | format(share) }}\n"
    assert render("a.md.jinja", name="AUC", share=0.125) == "AUC: 0.12\n"


@pytest.mark.parametrize(
    "text", ["{{ accuracz }}", "{{ figures.accuracz }}", "{% if accuracz %}{% endif %}"]
)
def test_a_misspelt_name_in_a_template_fails(templates: dict[str, str], text: str) -> None:
    templates["a.md.jinja"] = text
    with pytest.raises(jinja2.UndefinedError, match="accuracz"):
        render("a.md.jinja", accuracy=0.5, figures={"accuracy": 0.5})


def test_a_misspelt_template_fails() -> None:
    with pytest.raises(jinja2.TemplateNotFound):
        render("odel_card.md.jinja")


@pytest.mark.parametrize(
    "name", sorted(path.name for path in TEMPLATES.iterdir() if path.name != "base.html.jinja")
)
def test_every_template_of_the_package_needs_its_values(name: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render(name)


def test_html_is_escaped_and_markdown_is_not(templates: dict[str, str]) -> None:
    templates["a.html.jinja"] = templates["a.md.jinja"] = '<p title="{{ name }}">{{ name }}</p>'
    name = "<script>\"'&"
    escaped = "&lt;script&gt;&#34;&#39;&amp;"
    assert render("a.html.jinja", name=name) == f'<p title="{escaped}">{escaped}</p>'
    assert render("a.md.jinja", name=name) == f'<p title="{name}">{name}</p>'


def test_what_a_page_inherits_from_is_escaped_too(templates: dict[str, str]) -> None:
    templates["base.html.jinja"] = "<h1>{{ name }}</h1>{% block body %}{% endblock %}"
    templates["a.html.jinja"] = (
        '{% extends "base.html.jinja" %}{% block body %}<b>{{ name }}</b>{% endblock %}'
    )
    assert render("a.html.jinja", name="<i>") == "<h1>&lt;i&gt;</h1><b>&lt;i&gt;</b>"


def test_lines_of_blocks_leave_no_trace(templates: dict[str, str]) -> None:
    templates["a.md.jinja"] = (
        "{% for x in xs %}\n  {% if x %}\n{{ x }}\n  {% endif %}\n{% endfor %}\n"
    )
    assert render("a.md.jinja", xs=[1, 0, 2]) == "1\n2\n"


def test_without_jinja_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"jinja2 is needed to write a page .*\[report\]"):
        render("model_card.md.jinja")


# Pictures


def test_a_png_is_held_byte_by_byte() -> None:
    content = bytes(range(256))
    head, _, body = png_uri(content).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body, validate=True) == content


@pytest.mark.parametrize(
    ("shape", "mode"), [((30, 40), "L"), ((30, 40, 1), "L"), ((30, 40, 3), "RGB")]
)
def test_pixels_become_a_picture_of_their_size(shape: tuple[int, ...], mode: str) -> None:
    pixels = np.full(shape, 200, np.uint8)
    pixels[:15] = 50
    image = decoded(picture_uri(pixels), "jpeg")
    assert (image.size, image.mode) == ((40, 30), mode)
    seen = np.asarray(image, np.float64).reshape(30, 40, -1)
    assert seen[:7] == pytest.approx(50, abs=4)
    assert seen[23:] == pytest.approx(200, abs=4)


def test_a_picture_of_one_pixels_width_keeps_its_shape() -> None:
    assert decoded(picture_uri(np.zeros((8, 1, 1), np.uint8)), "jpeg").size == (1, 8)


@pytest.mark.parametrize(
    ("size", "small"), [((640, 320), (160, 80)), ((100, 400), (40, 160)), ((30, 20), (30, 20))]
)
def test_a_thumbnail_is_small_and_keeps_its_proportions(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    image = Image.new("RGB", size, (200, 100, 50))
    seen = decoded(thumbnail_uri(image), "jpeg")
    assert seen.size == small
    colour: Any = np.asarray(seen, np.float64).mean(axis=(0, 1))
    assert colour == pytest.approx([200, 100, 50], abs=4)
    assert image.size == size


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_thumbnail_of_any_decoded_image_can_be_shown(mode: str) -> None:
    image = Image.new(mode, (300, 300), 128 if mode == "L" else (128, 128, 128))
    assert decoded(thumbnail_uri(image), "jpeg").mode == "RGB"
    assert (image.mode, image.size) == (mode, (300, 300))
