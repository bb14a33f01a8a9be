"""Extras: each module that is asked for is brought by the extra that the error names."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from medkit.errors import MissingExtraError
from medkit.extras import EXTRAS, require

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def brought_by(extra: str) -> set[str]:
    """Return the packages that an extra installs, other extras that it names included."""
    named = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    found: set[str] = set()
    for requirement in named:
        others = re.match(r"medkit-edge\[([\w,]+)\]", requirement)
        if others:
            found |= {name for other in others[1].split(",") for name in brought_by(other)}
        else:
            found.add(re.split(r"[^\w.-]", requirement)[0])
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_every_module_that_it_is_named_for(extra: str) -> None:
    assert set(EXTRAS[extra].values()) <= brought_by(extra)


def test_a_module_stands_under_one_extra() -> None:
    modules = [module for packages in EXTRAS.values() for module in packages]
    assert len(modules) == len(set(modules))


def test_computing_figures_and_drawing_pages_does_not_bring_tensorflow() -> None:
    for extra in ("evaluate", "report", "audit", "onnx", "inspect", "openvino"):
        assert not {"tensorflow", "tensorflow-cpu", "keras"} & brought_by(extra)


def test_every_module_that_is_asked_for_is_brought_by_an_extra() -> None:
    known = {module for packages in EXTRAS.values() for module in packages}
    asked: set[str] = set()
    for path in [*(ROOT / "toolkit").rglob("*.py"), *(ROOT / "exporters").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
                asked |= {arg.value for arg in node.args[1:] if isinstance(arg, ast.Constant)}
    assert {"scipy", "sklearn", "jinja2"} <= asked <= known


def test_an_absent_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    require("compute an interval", "scipy")
    with pytest.raises(MissingExtraError) as caught:
        require("compute the AUC", "scipy", "sklearn")
    assert str(caught.value) == (
        "scikit-learn is needed to compute the AUC and is not installed; "
        'install it with: pip install "medkit-edge[evaluate]"'
    )


def test_a_command_of_several_extras_names_the_one_that_brings_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r'pip install "medkit-edge\[train\]"'):
        require("train", "sklearn", extra="train")


@pytest.mark.parametrize(
    ("module", "install"),
    [("ai_edge_litert", 'ai-edge-litert .* "medkit-edge"'), ("toys", 'toys .* "toys"')],
)
def test_the_base_install_and_plug_ins_have_no_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"^{install}$"):
        require("play", module)
