"""How many cores a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medkit.system import cores
from medkit.system.cores import available_cores


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine of 64 cores without a quota; return where the quota is looked for."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(cores, "_CGROUP_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "_CGROUP_V1", (tmp_path / "quota", tmp_path / "period"))
    return tmp_path


def test_without_limits_all_cores_of_the_machine_count() -> None:
    assert available_cores() == 64


def test_the_scheduler_may_allow_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 8})
    assert available_cores() == 3


@pytest.mark.parametrize(
    ("text", "count"),
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 64), ("", 64)],
)
def test_a_container_s_quota_counts_rounded_up(machine: Path, text: str, count: int) -> None:
    (machine / "cpu.max").write_text(text)
    assert available_cores() == count


@pytest.mark.parametrize(("quota", "count"), [("400000", 4), ("-1", 64)])
def test_so_does_that_of_older_containers(machine: Path, quota: str, count: int) -> None:
    (machine / "quota").write_text(quota + "\n")
    (machine / "period").write_text("100000\n")
    assert available_cores() == count


def test_a_machine_that_does_not_tell_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores() == 1
