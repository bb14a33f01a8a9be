"""Registries of formats, outputs and engines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from medkit.registry import Registry

MODULE = """
from registry_for_test import registry

class Thing:
    name = {name!r}

registry.add(Thing())
"""


class Added:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    """Return a registry with two built-in modules, neither of which is imported yet."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = ("built_in_one", "built_in_two")
    for module, name in zip(modules, ("one", "two"), strict=True):
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(MODULE.format(name=name))
    made: Registry[Any] = Registry("engine", lambda thing: thing.name, modules)
    holder = type(sys)("registry_for_test")
    holder.registry = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "registry_for_test", holder)
    return made


def test_what_is_built_in_comes_first_even_if_something_is_added_before_it_is_asked_for(
    registry: Registry[Any],
) -> None:
    registry.add(Added("other"))
    assert list(registry.all()) == ["one", "two", "other"]


def test_what_is_built_in_cannot_be_replaced(registry: Registry[Any]) -> None:
    with pytest.raises(ValueError, match="there is an engine 'two' already; choose another name"):
        registry.add(Added("two"))
    assert type(registry.all()["two"]).__module__ == "built_in_two"


def test_the_order_stays_if_a_built_in_module_is_imported_by_itself(
    registry: Registry[Any],
) -> None:
    import built_in_one  # type: ignore[import-not-found]  # noqa: F401

    assert list(registry.all()) == ["one", "two"]
