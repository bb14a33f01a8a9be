"""The documentation says what is so: commands, links, names, figures, and the site made of it."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from typer.main import get_command

from medkit import ClassifyOptions, defaults, predict_paths
from medkit.cli.app import app
from medkit.extras import EXTRAS
from medkit.models.bundle import load_bundle
from medkit.models.card import read_card
from medkit.tasks import PNEUMONIA, SKIN, TOML_NAME, Task
from medkit_exporters.formats.registry import get_exporter

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
EXTENDING = DOCS / "extending.md"
USE_THE_FILE = DOCS / "use-the-file.md"
ON_THE_SITE = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted(ROOT.glob("trained/*/*.md")),
    ROOT / "tests" / "samples" / "README.md",
]
PAGES = [*ON_THE_SITE, ROOT / "tests" / "regressions" / "README.md"]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_blocks(page: Path, language: str) -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, page.read_text(), flags=re.DOTALL | re.MULTILINE)


@cache
def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


# Commands


def medkit_lines(*pages: Path) -> list[list[str]]:
    """Return the words of every medkit command in the pages."""
    lines = [
        shlex.split(line, comments=True)
        for page in pages
        for block in code_blocks(page, "sh")
        for line in block.splitlines()
    ]
    return [
        line[: line.index("|")] if "|" in line else line for line in lines if line[:1] == ["medkit"]
    ]


def split_plugins(line: list[str]) -> tuple[list[str], list[str]]:
    """Return the plug-ins that a command names, and the words from the command's own on."""
    plugins, words = [], line[1:]
    while words[0] == "--plugin":
        plugins.append(words[1])
        words = words[2:]
    return plugins, words


def test_the_readme_shows_every_command() -> None:
    shown = {split_plugins(line)[1][0] for line in medkit_lines(README)}
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("line", medkit_lines(*PAGES), ids=" ".join)
def test_commands_in_the_documentation_parse(line: list[str]) -> None:
    _, words = split_plugins(line)
    COMMANDS[words[0]].make_context(words[0], words[1:])


def test_make_targets_in_the_documentation_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE)
    }
    assert {"demo", "test", "check", "site"} <= named
    assert named <= targets


def test_the_readme_lists_every_extra() -> None:
    table = README.read_text().partition("| extra | what it adds |")[2].partition("\n\n")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    listed = [name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == sorted(name for name in EXTRAS if name)


def test_the_python_in_the_readme_runs() -> None:
    (code,) = code_blocks(README, "python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pneumonia/NORMAL-1.png" in done.stdout


@pytest.fixture(scope="module")
def various_images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The samples, and JPEGs that are decoded at a smaller scale or lie on their side."""
    folder = tmp_path_factory.mktemp("various")
    samples = sorted((ROOT / "tests/samples/pneumonia").glob("*.png"))
    samples += sorted((ROOT / "tests/samples/skin").glob("*.png"))[::3]
    for number, sample in enumerate(samples):
        shutil.copy(sample, folder / f"{number:02}.png")
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        with Image.open(sample) as image:
            large = image.resize((600 + 200 * number, 1100), Image.Resampling.BICUBIC)
        large.save(folder / f"{number:02}.jpg", exif=exif)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("task", [PNEUMONIA, SKIN], ids=["pneumonia", "skin"])
@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_a_plain_program_gives_the_probabilities_of_classify(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    various_images: list[Path],
    task: Task,
    kind: str,
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("tensorflow")
    if task is PNEUMONIA:
        trained = request.getfixturevalue("tiny_exported")
        model = trained / f"pneumonia/model-int8.{kind}"
    else:
        shipped = load_bundle(SKIN).export_path(kind)
        content, _ = get_exporter(kind).load().finalise(shipped.read_bytes(), read_card(shipped))
        model = tmp_path / shipped.name
        model.write_bytes(content)
    programs = [code for code in code_blocks(USE_THE_FILE, "python") if code.startswith("# use_")]
    (program,) = (code for code in programs if {"tflite": "litert", "onnx": "onnx"}[kind] in code)
    mode = "L" if task.channels == 1 else "RGB"
    mine = f'LABELS, MODE, WIDTH, HEIGHT = {task.labels!r}, "{mode}", 128, 128  #'
    (theirs,) = re.findall("^LABELS, MODE, WIDTH, HEIGHT = .* #", program, flags=re.MULTILINE)
    if task is PNEUMONIA:
        assert theirs == mine.replace("'", '"')
    done = subprocess.run(
        [sys.executable, "-c", program.replace(theirs, mine), model, *various_images],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    options = ClassifyOptions(inputs=tuple(various_images), task=task.name, model=model)
    rows = list(predict_paths(options))
    firsts = [row.probabilities[task.labels[0]] for row in rows]
    assert max(firsts) - min(firsts) > 0.01, "one answer tells nothing"
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [row.path for row in rows]
    for line, row in zip(lines, rows, strict=True):
        found = {label: float(value) for label, value in (cell.split("=") for cell in line[1:])}
        assert found == pytest.approx(row.probabilities, rel=0, abs=1e-6)


def test_the_programs_for_other_languages_use_the_names_of_the_file() -> None:
    for language in ("js", "cpp", "kotlin"):
        (code,) = code_blocks(USE_THE_FILE, language)
        assert {"image", "probabilities"} <= set(re.findall(r"\w+", code))


# Names


def test_the_tests_that_hold_a_promise_exist() -> None:
    named = re.findall(r"`tests/([\w/]+)\.py::(\w+)`", (DOCS / "reliability.md").read_text())
    assert len(named) > 30
    for module, name in named:
        functions = (ROOT / f"tests/{module}.py").read_text()
        assert f"def {name}(" in functions, f"{module} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page: Path) -> None:
    """A module may be named from the repository's root, or from the toolkit's."""
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)*\.(?:py|toml))(?:::\w+)?`", prose(page))
    homes = (ROOT, ROOT / "toolkit" / "medkit")
    examples = {block.split()[1] for block in code_blocks(EXTENDING, "python")}
    examples.add(TOML_NAME)  # people write it, beside their models
    wrong = [
        name
        for name in named
        if name not in examples and not any((home / name).is_file() for home in homes)
    ]
    assert wrong == []


def test_the_figure_of_the_rooms_shows_every_room_and_nothing_else() -> None:
    (figure,) = code_blocks(EXTENDING, "text")
    toolkit = ROOT / "toolkit" / "medkit"
    rooms = {f"{path.parent.name}/" for path in toolkit.glob("*/__init__.py")}
    modules = {path.name for path in toolkit.glob("[a-z]*.py")}
    shown = set(re.findall(r"\b[a-z_]+(?:/|\.py)", figure))
    assert rooms | modules | {"exporters/"} <= shown
    inner = {path.name for path in toolkit.glob("*/*.py")}
    inner |= {f"{path.parent.name}/" for path in toolkit.glob("*/*/__init__.py")}
    assert shown <= rooms | modules | {"exporters/"} | inner


def test_every_example_of_an_extension_has_a_name_and_a_use() -> None:
    blocks = code_blocks(EXTENDING, "python")
    names = [re.match(r"# (\w+)\.py\n", block) for block in blocks]
    assert None not in names
    modules = [name[1] for name in names if name]
    assert len(set(modules)) == len(modules) == 6
    used = {plugin for line in medkit_lines(EXTENDING) for plugin in split_plugins(line)[0]}
    assert used == set(modules) - {"toy_task"}


def test_defaults_on_the_pages_are_those_of_the_code() -> None:
    rows = re.findall(
        r"\| ([\d,]+)[a-z ]* \| `(--max-\w+)` \|", (DOCS / "reliability.md").read_text()
    )
    assert {option: int(number.replace(",", "")) for number, option in rows} == {
        "--max-megapixels": defaults.MEGAPIXELS,
        "--max-seconds": defaults.SECONDS,
        "--max-megabytes": defaults.MEGABYTES,
        "--max-expansion": defaults.EXPANSION,
    }
    page = (DOCS / "parity.md").read_text()
    (budget,) = re.findall(r"`--max-drop` is [^(]*\(default (\d+)\)", page)
    assert int(budget) == defaults.MAX_DROP
    assert f"The default is `{defaults.BALANCED}`." in README.read_text()


# Links


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_anchors_are_those_that_github_makes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Train, export, prove\n## A `name`\n```sh\n# no heading\n```\n## A name\n")
    assert anchors(page) == {"train-export-prove", "a-name", "a-name-1"}


# The site


def site_settings() -> Any:
    return tomllib.loads((DOCS / "site.toml").read_text())["project"]


def test_the_site_leads_to_every_page() -> None:
    def pages(entries: list[Any]) -> list[str]:
        values = [value for entry in entries for value in entry.values()]
        return [
            page
            for value in values
            for page in ([value] if isinstance(value, str) else pages(value))
        ]

    listed = pages(site_settings()["nav"])
    assert sorted(listed) == sorted(name_of(page) for page in ON_THE_SITE)


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical is not installed, so the site was NOT built; run: make install")
    done = subprocess.run(
        [sys.executable, DOCS / "build_site.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "site"
    made = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {"index.html", "docs/extending.html", "CONTRIBUTING.html", "404.html"} <= made
    assert len(made) == len(ON_THE_SITE) + 1
    for name in made:
        html = (site / name).read_text()
        # A link that a reader may follow is an <a>; everything else is loaded with the page.
        tags = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", html)
        assert any("stylesheet" in tag for tag in tags)
        assert [tag for tag in tags if re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag)] == []


@pytest.mark.parametrize(("link", "builds"), [("LICENSE", True), ("#two", False), ("no.md", False)])
def test_a_broken_link_ends_the_build_of_the_site(tmp_path: Path, link: str, builds: bool) -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical is not installed, so no site was built; run: make install")
    copy = tmp_path / "repository"
    (copy / "docs").mkdir(parents=True)
    (copy / "docs" / "build_site.py").write_bytes((DOCS / "build_site.py").read_bytes())
    (copy / "docs" / "site.toml").write_text(
        '[project]\nsite_name = "few"\ndocs_dir = "pages"\nsite_dir = "site"\n'
    )
    (copy / "LICENSE").write_text("of one's own")
    (copy / "README.md").write_text(f"# One\n\n[link]({link})\n")
    done = subprocess.run(
        [sys.executable, copy / "docs" / "build_site.py", tmp_path / "made"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == builds, done.stdout + done.stderr


# Tables


def test_tables_are_up_to_date_with_the_models() -> None:
    script = DOCS / "update_tables.py"
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_text_in_the_picture_of_the_terminal_is_stretched() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "terminal.svg")
    texts = [text for text in picture.iter() if text.get("textLength")]
    assert len(texts) > 20
    widths = {round(float(text.get("textLength", "")) / len(text.text or ""), 3) for text in texts}
    assert len(widths) == 1
