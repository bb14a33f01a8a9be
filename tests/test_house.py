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
from pathlib import Path

import pytest
from PIL import Image

import medkit
from medkit import errors

REPOSITORY = Path(__file__).resolve().parents[1]

LEVELS = (
    ("medkit.cli",),
    ("medkit.console",),
    ("medkit.benchmark",),
    ("medkit.classify",),
    (
        "medkit.auditpage",
        "medkit.evaluation",
        "medkit.inspection",
        "medkit.paritypage",
        "medkit.pipeline",
        "medkit.quarantine",
        "medkit.report",
        "medkit.resume",
        "medkit_exporters",
    ),
    ("medkit.fastest", "medkit.parity"),
    ("medkit.diagnosis", "medkit.training"),
    ("medkit.census", "medkit.peers", "medkit.splits"),
    ("medkit.audit", "medkit.comparison", "medkit.modelcard", "medkit.plots", "medkit.runtimes"),
    ("medkit.bundles", "medkit.datasets", "medkit.listing", "medkit.metrics", "medkit.rows"),
    ("medkit.decisions", "medkit.gradcam", "medkit.images", "medkit.pages", "medkit.paired"),
    ("medkit.intervals", "medkit.limits"),
    ("medkit.tasks",),
    (
        "medkit.cores",
        "medkit.errors",
        "medkit.memory",
        "medkit.quiet",
        "medkit.seal",
        "medkit.version",
    ),
)
"""Modules and packages, from the top; each imports from lower levels only."""

FACADES = ("medkit",)
"""Packages for users, which no module imports from."""

HEAVY = {
    "imagehash",
    "jinja2",
    "keras",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "scipy",
    "sklearn",
    "tensorflow",
}

CLASSIFYING = {
    "PIL",
    "ai_edge_litert",
    "flatbuffers",
    "medkit",
    "numpy",
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
    "Audit",
    "Benchmark",
    "BenchmarkOptions",
    "Bundle",
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
    "PNEUMONIA",
    "Parity",
    "ParityOptions",
    "ReportOptions",
    "Row",
    "SKIN",
    "TASKS",
    "Task",
    "TrainOptions",
    "TrainResult",
    "UsageError",
    "__version__",
    "audit_folder",
    "check_parity",
    "classify_files",
    "evaluate_folder",
    "export_models",
    "inspect_file",
    "load_bundle",
    "load_model",
    "load_tensor",
    "path_from_csv",
    "predict_paths",
    "run_benchmark",
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


def unit(module: str) -> str:
    """Return the entry of the levels that a module belongs to."""
    names = {name for level in LEVELS for name in level} | set(FACADES)
    while module not in names:
        module = module.rpartition(".")[0]
        assert module, "a new package needs its place in the levels"
    return module


def at_import(tree: ast.Module) -> ast.Module:
    """Return a module without its functions' bodies and what is there for type checkers only."""

    class Outside(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.If | None:
            return None if ast.unparse(node.test) == "TYPE_CHECKING" else node

    visited: ast.Module = Outside().visit(tree)
    return visited


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


def test_every_module_has_a_level_and_every_level_its_modules() -> None:
    listed = [name for level in LEVELS for name in level]
    assert len(listed) == len(set(listed))
    assert {unit(module) for module in sources()} == {*listed, *FACADES}


def test_imports_flow_down_the_levels() -> None:
    depth = {name: number for number, level in enumerate(LEVELS) for name in level}
    known = set(sources())
    wrong = set()
    for module, path in sources().items():
        for target in imports(ast.parse(path.read_text(encoding="utf-8")), known):
            ends = unit(module), unit(target)
            if ends[1] in FACADES or (ends[0] != ends[1] and depth[ends[0]] >= depth[ends[1]]):
                wrong.add(f"{module} imports {target}")
    assert not wrong


def test_modules_do_not_wait_for_each_other_while_they_are_imported() -> None:
    known = set(sources())
    graph = {
        module: set(imports(at_import(ast.parse(path.read_text(encoding="utf-8"))), known))
        for module, path in sources().items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


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
    assert sorted(imports(at_import(ast.parse(text)), known)) == sorted(first)


@pytest.mark.parametrize(
    "module",
    [
        "medkit",
        "medkit.audit",
        "medkit.auditpage",
        "medkit.census",
        "medkit.cli",
        "medkit.classify",
        "medkit.comparison",
        "medkit.console",
        "medkit.decisions",
        "medkit.diagnosis",
        "medkit.evaluation",
        "medkit.inspection",
        "medkit.intervals",
        "medkit.metrics",
        "medkit.modelcard",
        "medkit.pages",
        "medkit.paired",
        "medkit.parity",
        "medkit.paritypage",
        "medkit.plots",
        "medkit.report",
        "medkit.runtimes",
        "medkit.runtimes.keras",
        "medkit.runtimes.litert",
        "medkit.runtimes.onnx",
        "medkit.runtimes.openvino",
        "medkit.splits",
        "medkit.training",
        "medkit_exporters",
    ],
)
def test_importing_a_module_imports_nothing_heavy(module: str) -> None:
    found = modules_after(f"import {module}")
    assert module.partition(".")[0] in found
    assert not HEAVY & found


def test_asking_the_command_line_for_help_does_not_even_import_numpy() -> None:
    found = modules_after(
        "import sys; from medkit.cli import app\nsys.argv = ['medkit', 'classify', '--help']\n"
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
        "import sys; from medkit.cli import app\n"
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
