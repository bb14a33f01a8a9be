"""Rules of the house: which module may import which, what is imported when, what is public."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

import medkit
from medkit import errors

REPOSITORY = Path(__file__).resolve().parents[1]

ROOMS: tuple[tuple[str, ...], ...] = (
    ("medkit.__main__",),
    ("medkit.cli",),
    ("medkit_exporters",),
    ("medkit.training", "medkit.benchmark"),
    ("medkit.reports",),
    ("medkit.evaluation",),
    ("medkit.batch",),
    ("medkit.datasets",),
    ("medkit.models",),
    ("medkit.tasks",),
    ("medkit.images",),
    ("medkit.files", "medkit.extras", "medkit.records", "medkit.registry", "medkit.plugins"),
    ("medkit.system", "medkit.errors", "medkit.defaults", "medkit.version", "medkit.wording"),
)
"""The rooms, from the top: folders, and modules that stand alone. Each imports from itself and
from rooms that are lower only."""

LONGEST = 400
"""Lines of a module that can be read in one sitting."""

FACADES = ("medkit",)
"""Packages for users, which no module imports from."""

HEAVY = {
    "imagecodecs",
    "imagehash",
    "jinja2",
    "keras",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "pillow_heif",
    "scipy",
    "sklearn",
    "tensorflow",
    "tifffile",
}

CLASSIFYING = {
    "PIL",
    "ai_edge_litert",
    "flatbuffers",
    "medkit",
    "numpy",
    "platformdirs",
    "rich",
    "typer",
    # What typer imports.
    "annotated_doc",
    "annotated_types",
    "pydantic",
    "pydantic_core",
    "shellingham",
    "typing_extensions",
    "typing_inspection",
}
"""All that ``medkit classify`` imports from outside of the standard library."""

PUBLIC = [
    "AdoptOptions",
    "AdoptResult",
    "Audit",
    "Benchmark",
    "BenchmarkOptions",
    "Bundle",
    "Catalogue",
    "ClassifyOptions",
    "ClassifySummary",
    "Comparison",
    "EvaluateOptions",
    "Evaluation",
    "ExportOptions",
    "ExportedFile",
    "ImageError",
    "InputContract",
    "Inspection",
    "Limits",
    "MedkitError",
    "Model",
    "ModelCard",
    "ModelFileError",
    "OperatingPoint",
    "OwnOptions",
    "PNEUMONIA",
    "Parity",
    "ParityOptions",
    "ProgressLine",
    "ReportOptions",
    "Row",
    "SKIN",
    "TASKS",
    "Task",
    "TrainOptions",
    "TrainResult",
    "UsageError",
    "__version__",
    "adopt_model",
    "audit_folder",
    "check_parity",
    "classify_files",
    "evaluate_folder",
    "export_models",
    "finalise_exports",
    "get_task",
    "inspect_file",
    "list_tasks",
    "load_bundle",
    "load_model",
    "load_tensor",
    "path_from_csv",
    "plan_own",
    "predict_paths",
    "run_benchmark",
    "to_frame",
    "train_model",
    "write_report",
]


def sources() -> dict[str, Path]:
    """Return every module of both packages and its file."""
    found = {}
    for root in (REPOSITORY / "toolkit", REPOSITORY / "exporters"):
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Give the modules of both packages that a syntax tree imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            # "from package import name" imports the module of that name, where there is one.
            full = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if name in known else module for name in full]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("medkit", "medkit_exporters"))


def room_of(module: str) -> str:
    """Return the room that a module belongs to."""
    names = {name for level in ROOMS for name in level} | set(FACADES)
    while module not in names:
        module = module.rpartition(".")[0]
        assert module, "a new package needs its place among the rooms"
    return module


def modules_after(code: str) -> set[str]:
    """Run code in a fresh interpreter; return the top-level modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


# Imports


def test_every_module_is_in_a_room_and_every_room_has_modules() -> None:
    listed = [name for level in ROOMS for name in level]
    assert len(listed) == len(set(listed))
    assert {room_of(module) for module in sources()} == {*listed, *FACADES}


def test_rooms_import_from_lower_rooms_only() -> None:
    depth = {name: number for number, level in enumerate(ROOMS) for name in level}
    known = set(sources())
    wrong = set()
    for module, path in sources().items():
        for target in imports(ast.parse(path.read_text(encoding="utf-8")), known):
            ends = room_of(module), room_of(target)
            if ends[1] in FACADES or (ends[0] != ends[1] and depth[ends[0]] >= depth[ends[1]]):
                wrong.add(f"{module} imports {target}")
    assert not wrong


def test_modules_of_a_room_do_not_import_in_circles() -> None:
    """Not even late, inside a function: of two modules, one is the lower."""
    known = set(sources())
    graph = {
        module: set(imports(ast.parse(path.read_text(encoding="utf-8")), known)) - {module}
        for module, path in sources().items()
        if module not in FACADES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_every_module_can_be_read_in_one_sitting() -> None:
    lengths = {
        m: len(path.read_text(encoding="utf-8").splitlines()) for m, path in sources().items()
    }
    assert {m: length for m, length in lengths.items() if length > LONGEST} == {}


def test_modules_name_each_other_by_words_that_lead_somewhere() -> None:
    """Registries hold modules and classes as text, which no import checks."""
    known = set(sources())
    named = set()
    for path in sources().values():
        for text in re.findall(
            r'"(medkit(?:_exporters)?[\w.]*(?::\w+)?)"', path.read_text("utf-8")
        ):
            if "." in text:
                named.add(text)
    assert len(named) > 20
    for text in sorted(named):
        module, _, name = text.partition(":")
        assert module in known, text
        assert not name or hasattr(import_module(module), name), text


def test_the_walk_over_imports_sees_every_form_of_them() -> None:
    text = """
import medkit.images
from medkit import parity as library, __version__
from medkit.runtimes import load_model, onnx
def late():
    from medkit_exporters import export_models
if TYPE_CHECKING:
    import medkit.rows
"""
    known = {"medkit", "medkit.parity", "medkit.runtimes", "medkit.runtimes.onnx"}
    first = ["medkit.images", "medkit.parity", "medkit", "medkit.runtimes", "medkit.runtimes.onnx"]
    assert sorted(imports(ast.parse(text), known)) == sorted(
        [*first, "medkit_exporters", "medkit.rows"]
    )


def light_modules() -> list[str]:
    """Return the modules that do not say that importing them imports something heavy."""
    return [
        module
        for module, path in sources().items()
        if "Importing this module imports"
        not in (ast.get_docstring(ast.parse(path.read_text())) or "")
        and module != "medkit.__main__"
    ]


def test_importing_a_module_imports_nothing_heavy_unless_it_says_so() -> None:
    modules = light_modules()
    assert len(modules) > 100
    found = modules_after(f"import {', '.join(modules)}")
    assert not HEAVY & found


def test_asking_the_command_line_for_help_does_not_even_import_numpy() -> None:
    found = modules_after(
        "import sys; from medkit.cli.app import app\nsys.argv = ['medkit', 'classify', '--help']\n"
        "try: app()\nexcept SystemExit: pass"
    )
    assert "typer" in found
    assert not (HEAVY | {"numpy", "PIL", "ai_edge_litert", "rich"}) & found


def test_classifying_imports_nothing_heavy(
    pooled_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (30, 20), 90).save(tmp_path / "xray.png")
    Image.new("RGB", (30, 20), (200, 120, 90)).save(tmp_path / "skin.png")
    monkeypatch.setenv("MEDKIT_TRAINED", str(pooled_models))
    monkeypatch.chdir(tmp_path)
    found = modules_after(
        "import sys; from medkit.cli.app import app\n"
        "sys.argv = ['medkit', 'classify', '.', '--out', 'out.csv']\n"
        "try: app()\nexcept SystemExit as end: assert not end.code, end.code"
    )
    rows = (tmp_path / "out.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:3] for row in rows] == [
        ["skin.png", "ok", "skin"],
        ["xray.png", "ok", "pneumonia"],
    ]
    assert not HEAVY & found
    third_party = {
        name for name in found - set(sys.stdlib_module_names) if not name.startswith("_")
    }
    assert {"ai_edge_litert", "medkit", "numpy", "PIL"} <= third_party <= CLASSIFYING


# Public names


def test_the_public_names_are_these() -> None:
    assert medkit.__all__ == PUBLIC
    assert dir(medkit) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(medkit, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__name__ == name
        assert inspect.getdoc(value)


def test_other_names_are_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'medkit' has no attribute 'magic'"):
        getattr(medkit, "magic")  # noqa: B009


def test_every_module_says_what_it_is_for() -> None:
    for module, path in sources().items():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), module


# Errors


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([│├└─ ]*)(\w+Error)\b", line)
        if match:
            level, name = len(match[1]) // 4, match[2]
            assert name not in drawn
            drawn[name] = above[level - 1] if level else "Exception"
            above[level:] = [name]
    defined = {
        name: value.__base__.__name__
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, BaseException) and value.__module__ == errors.__name__
    }
    assert drawn == defined


def test_exit_statuses_are_1_and_for_wrong_usage_2() -> None:
    for name, value in inspect.getmembers(errors, inspect.isclass):
        assert value.exit_code == (2 if issubclass(value, errors.UsageError) else 1), name


# Distribution


def test_the_version_has_one_home() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert "version" not in project["project"]
    home = REPOSITORY / project["tool"]["hatch"]["version"]["path"]
    assert home == sources()["medkit.version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", medkit.__version__)
    assert f'__version__ = "{medkit.__version__}"' in home.read_text(encoding="utf-8")


def test_no_heavy_package_is_required() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.split(r"[^\w-]", text)[0].lower() for text in project["dependencies"]}
    assert not required & {*HEAVY, "scikit-learn", "tensorflow-cpu", "tf2onnx"}
