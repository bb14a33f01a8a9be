"""From JSON to dataclasses: what is accepted, and how a wrong field is told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from medkit.records import read_record


@dataclass(frozen=True)
class Inner:
    name: str
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError(f"share {self.share} is above 1")


@dataclass(frozen=True)
class Outer:
    count: int
    sure: bool
    inner: Inner
    several: tuple[Inner, ...] = ()
    by_name: dict[str, float | None] = field(default_factory=dict)
    maybe: Inner | None = None
    anything: Any = None


WHOLE = {"count": 1, "sure": False, "inner": {"name": "a"}}


def test_a_record_is_read_field_by_field() -> None:
    stored = {
        **WHOLE,
        "several": [{"name": "b", "share": 1}],
        "by_name": {"x": 2, "y": None},
        "maybe": None,
        "anything": [1, "two"],
        "of a later version": 7,
    }
    assert read_record(Outer, stored) == Outer(
        count=1,
        sure=False,
        inner=Inner("a"),
        several=(Inner("b", 1.0),),
        by_name={"x": 2.0, "y": None},
        maybe=None,
        anything=[1, "two"],
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"count": 1.5}, "count is 1.5, not a whole number"),
        ({"count": True}, "count is True, not a whole number"),
        ({"sure": 0}, "sure is 0, not true or false"),
        ({"inner": None}, "inner is None, not an object"),
        ({"inner": {}}, "inner has no field 'name'"),
        ({"inner": {"name": "a", "share": "b"}}, "inner.share is 'b', not a number"),
        ({"inner": {"name": "a", "share": 2}}, "inner: share 2.0 is above 1"),
        ({"several": {}}, "several is {}, not a list"),
        ({"several": [{"name": "a"}, 3]}, "several[1] is 3, not an object"),
        ({"by_name": []}, "by_name is [], not an object"),
        ({"by_name": {"x": "y"}}, "by_name.x is 'y', not a number"),
        ({"maybe": {"name": 3}}, "maybe.name is 3, not a text"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(problem)}$"):
        read_record(Outer, {**WHOLE, **changes})


@pytest.mark.parametrize("stored", [None, 7, "text", []])
def test_what_is_no_object_is_refused(stored: Any) -> None:
    with pytest.raises(ValueError, match=r"^it is .*, not an object$"):
        read_record(Outer, stored)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ValueError, match="^has no field 'sure'$"):
        read_record(Outer, {"count": 1, "inner": {"name": "a"}})


def test_an_unknown_field_is_refused_where_it_could_change_the_meaning() -> None:
    with pytest.raises(ValueError, match="^has an unknown field 'colour'$"):
        read_record(Outer, {**WHOLE, "colour": "red"}, strict=True)
