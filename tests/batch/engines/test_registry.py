"""Engines that can be asked for."""

from __future__ import annotations

import pytest

from medkit.batch.engines.registry import get_engine, register_engine
from medkit.batch.engines.threads import Threads
from medkit.batch.options import ClassifyOptions
from medkit.errors import UsageError


def test_the_engine_that_runs_use_by_default_is_known() -> None:
    assert isinstance(get_engine(ClassifyOptions(inputs=()).engine), Threads)


@pytest.mark.parametrize(
    ("word", "meant"), [("", ""), ("Threads", "did you mean threads? "), ("processes", "")]
)
def test_an_unknown_engine_is_refused_with_those_accepted(word: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_engine(word)
    assert str(caught.value) == f"unknown engine {word!r}; {meant}accepted: threads"


def test_an_engine_whose_name_is_taken_is_refused_and_replaces_nothing() -> None:
    before = get_engine("threads")
    with pytest.raises(ValueError, match="there is an engine 'threads' already"):
        register_engine(Threads())
    assert get_engine("threads") is before
