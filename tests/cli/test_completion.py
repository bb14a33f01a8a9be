"""What a shell completes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from commandruns import PROGRAM, run


def completed(line: str, **environment: str) -> list[str]:
    """Return what the shell is offered for the last word of a line."""
    done = subprocess.run(
        PROGRAM,
        env={
            **os.environ,
            "_MEDKIT_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("medkit cl", ["classify"]),
        ("medkit --ver", ["--version"]),
        ("medkit classify --op", ["--operating-point"]),
        ("medkit classify --task p", ["pneumonia"]),
        ("medkit classify --task ", ["auto", "pneumonia", "skin"]),
        ("medkit classify --runtime ", ["auto", "litert", "onnx", "openvino", "keras"]),
        ("medkit classify --engine ", ["threads"]),
        ("medkit classify --operating-point ", ["balanced", "high-sensitivity"]),
        ("medkit evaluate ", ["pneumonia", "skin"]),
        ("medkit evaluate skin ", ["pneumonia"]),
        ("medkit evaluate --precision fp", ["fp16", "fp32"]),
        ("medkit evaluate --runtime l", ["litert"]),
        ("medkit export --format ", ["tflite", "onnx"]),
        ("medkit train ", ["pneumonia", "skin"]),
        ("medkit train skin --recipe ", ["seed", "default"]),
        ("medkit train skin --on-conflict keep", ["keep-first", "keep-rarer"]),
        # Files are completed by the shell itself where nothing is offered.
        ("medkit classify ", []),
        ("medkit evaluate --data ", []),
        ("medkit inspect ", []),
    ],
)
def test_names_are_completed(line: str, words: list[str], tmp_path: Path) -> None:
    assert completed(line, MEDKIT_TRAINED=str(tmp_path)) == words


def test_tasks_of_a_given_folder_are_completed(tmp_path: Path) -> None:
    for name, file in (("retina", "task.toml"), ("retinopathy", "task.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    both = ["retina", "retinopathy"]
    for command in ("classify", "audit", "benchmark"):
        assert completed(f"medkit {command} --trained {tmp_path} --task r") == both
    for command in ("evaluate", "report", "parity", "export"):
        assert completed(f"medkit {command} r", MEDKIT_TRAINED=str(tmp_path)) == both


def test_tasks_of_the_users_folder_are_completed(tmp_path: Path) -> None:
    folder = tmp_path / "medkit/models/retina"
    folder.mkdir(parents=True)
    (folder / "task.toml").touch()
    assert completed("medkit classify --task r", XDG_DATA_HOME=str(tmp_path)) == ["retina"]


def test_what_a_plug_in_adds_is_completed(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(
        "from medkit.models.runtimes.registry import Runtime, register_runtime\n"
        "register_runtime(Runtime('toy', 'Toy', '.onnx', 'toy:Toy', 'toy'))\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    line = "medkit --plugin toy evaluate --runtime t"
    assert completed(line, PYTHONPATH=path) == ["toy"]
    assert completed("medkit --plugin absent evaluate --runtime l", PYTHONPATH=path) == ["litert"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_and_installed_for_the_usual_shells(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer._completion_shared._get_shell_name", lambda: shell)
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = run("--show-completion")
    assert shown.exit_code == 0
    assert f"complete_{shell}" in shown.stdout
    installed = run("--install-completion")
    assert installed.exit_code == 0
    assert f"{shell} completion installed in {tmp_path}" in installed.stdout
    assert any(f"complete_{shell}" in path.read_text() for path in tmp_path.rglob("*medkit*"))
