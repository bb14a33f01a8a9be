"""The records of docs/architectures.md, and the tables that are made from them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from medkit.files import read_json
from medkit.records import read_record

FOLDER = Path(__file__).resolve().parent / "architectures"

PRECISIONS = ("fp32", "fp16", "int8")
"""What is asked for, in the order in which it is made."""

_NOT_MADE = "no file"


@dataclass(frozen=True)
class Cell:
    """One file of one network, or the reason why there is none.

    Attributes
    ----------
    precision, rung
        Precision of the file, and the rung of the ladder that made it; empty without a file.
    failed
        Each rung that was tried before, with the first rule that it broke.
    error
        Why there is no file; empty if there is one.
    bytes
        Size of the file.
    integer_share
        Share of the multiply-accumulates that are done in integers, 0..1.
    agreement, largest_difference
        Top-1 agreement with the original, 0..1, and the largest difference of a probability.
    time_ratio
        Time for one image divided by that of the fp32 file, both measured in turn.
    """

    precision: str = ""
    rung: str = ""
    failed: tuple[str, ...] = ()
    error: str = ""
    bytes: int = 0
    integer_share: float = 0.0
    agreement: float = 0.0
    largest_difference: float = 0.0
    time_ratio: float = 0.0


@dataclass(frozen=True)
class Record:
    """One network with its files.

    Attributes
    ----------
    network, size, parameters
        Name, width and height of the images, and number of parameters.
    accuracy
        Share of the judging images that the original decides rightly, 0..1.
    fp32_milliseconds
        Least time of the fp32 file for one image, by format.
    cells
        The cells by format and precision: ``cells["tflite"]["int8"]``.
    versions
        Versions of the packages that made and ran the files.
    """

    network: str
    size: int
    parameters: int
    accuracy: float
    fp32_milliseconds: dict[str, float] = field(default_factory=dict)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def path_of(network: str, folder: Path = FOLDER) -> Path:
    """Return the file of a network's record."""
    words = network.lower().replace(",", "").split()
    return folder / f"{'-'.join(words)}.json"


def write(record: Record, folder: Path = FOLDER) -> None:
    """Write a record."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(record), indent=2)
    path_of(record.network, folder).write_text(text + "\n", encoding="utf-8")


def read_all(folder: Path = FOLDER) -> list[Record]:
    """Return the records, from few parameters to many."""
    found = [read_record(Record, read_json(path)) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda record: (record.parameters, record.network))


def matrix(form: str, folder: Path = FOLDER) -> str:
    """Return the table of one format."""
    lines = [
        "| network | input | accuracy | fp32 | fp16 | int8 asked for | rung | integers | "
        "agreement | largest difference |",
        "|---|---:|---:|---|---|---|---|---:|---:|---:|",
    ]
    for record in read_all(folder):
        cells = record.cells[form]
        plain, half, small = (cells[precision] for precision in PRECISIONS)
        lines.append(
            f"| {record.network} | {record.size} | {record.accuracy:.0%} "
            f"| {_plain(plain, record.fp32_milliseconds.get(form))} | {_against(half, plain)} "
            f"| {_against(small, plain)} | {small.rung or '-'} | {_shares(small)} |"
        )
    return "\n".join(lines)


def reasons(folder: Path = FOLDER) -> str:
    """List each file that is not what was asked for, with the rungs that failed before it."""
    lines = ["| network | format | asked for | became | because |", "|---|---|---|---|---|"]
    for record in read_all(folder):
        for form, cells in record.cells.items():
            for asked, cell in cells.items():
                if not cell.failed and not cell.error:
                    continue
                why = cell.error or "; ".join(cell.failed)
                lines.append(
                    f"| {record.network} | {form} | {asked} | {cell.precision or _NOT_MADE} "
                    f"| {why.replace('|', '/')} |"
                )
    return "\n".join(lines)


def _plain(cell: Cell, milliseconds: float | None) -> str:
    if cell.error or milliseconds is None:
        return _NOT_MADE
    return f"{cell.bytes / 1e6:.1f} MB, {milliseconds:.0f} ms, {cell.largest_difference:.0e}"


def _against(cell: Cell, plain: Cell) -> str:
    """Return precision, size and time of a file; the latter two against fp32."""
    if cell.error:
        return _NOT_MADE
    if not plain.bytes:
        return f"{cell.precision}, {cell.bytes / 1e6:.1f} MB"
    return (
        f"{cell.precision}, {cell.bytes / plain.bytes:.2f} of the size, "
        f"{cell.time_ratio:.2f} of the time"
    )


def _shares(cell: Cell) -> str:
    if cell.error:
        return "- | - | -"
    return f"{cell.integer_share:.0%} | {cell.agreement:.0%} | {cell.largest_difference:.3f}"
