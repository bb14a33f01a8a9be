"""What images belong together: all of a patient, or of a lesion, stay in one split."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from medkit.datasets.csvfiles import read_csv_table
from medkit.datasets.labels import nfc
from medkit.datasets.table import GROUP_COLUMNS
from medkit.errors import UsageError
from medkit.files import names_file
from medkit.wording import counted

GROUP_OPTION = "--group-by"
"""The option that says what images belong together; see :func:`read_grouping`."""

IMAGE_COLUMNS = ("image", "path", "file", "filename", "image_id", "Image Index", "isic_id")
"""Names of the column with an image's name in a CSV of groups; else it is the first."""

Grouping = Callable[[str], str | None]
"""Returns the group of an image by its relative path; ``None`` if it tells none."""


def read_grouping(given: str) -> Grouping:
    """Return the grouping that a regular expression or a CSV file describes.

    Parameters
    ----------
    given
        A regular expression: its first group in an image's relative path, or
        all that it matches if it has none, is the patient. Or a CSV file with
        a column of images, by relative path, file name or its stem, and a
        column of :data:`~medkit.datasets.table.GROUP_COLUMNS`.

    Raises
    ------
    UsageError
        If it is neither, or if the file contradicts itself.
    """
    if names_file(given) or Path(given).suffix.lower() == ".csv":
        return _by_table(Path(given))
    try:
        pattern = re.compile(given)
    except re.error as error:
        raise UsageError(
            f"{GROUP_OPTION} {given!r} is no CSV file and no regular expression ({error}); "
            r"accepted: such as '^(patient\d+)_', or a CSV with the columns image and group"
        ) from error

    def matched(name: str) -> str | None:
        found = pattern.search(name)
        return (found.group(1 if pattern.groups else 0) or None) if found else None

    return matched


def group_names(grouping: Grouping, given: str, names: Iterable[str]) -> Mapping[str, str]:
    """Return the group of each image by its name.

    Parameters
    ----------
    grouping
        The grouping.
    given
        What described it, for the message.
    names
        Relative paths of images.

    Raises
    ------
    UsageError
        If an image has none.
    """
    found = {name: grouping(name) for name in names}
    without = [name for name, group in found.items() if not group]
    if without:
        raise UsageError(
            f"{GROUP_OPTION} {given} gives no group for {counted(len(without), 'image')} of "
            f"{len(found):,}, such as {without[0]}; extend it to all images"
        )
    return {name: nfc(group) for name, group in found.items() if group}


def _by_table(path: Path) -> Grouping:
    table = read_csv_table(path)
    image, group = table.column(IMAGE_COLUMNS) or 0, table.column(GROUP_COLUMNS)
    if group is None or group == image:
        raise UsageError(
            f"{path} has no column of groups: found {', '.join(table.columns)}; expected an "
            f"image's path first, and a column {' or '.join(map(repr, GROUP_COLUMNS[:2]))}"
        )
    known: dict[str, str] = {}
    for line, cells in table.rows:
        name, told = PureWindowsPath(cells[image]).as_posix(), cells[group]
        if not told:
            raise UsageError(f"{path}, line {line}: {name} has no group; fill it")
        if known.setdefault(nfc(name), told) != told:
            raise UsageError(
                f"{path}, line {line}: {name} is in the groups {known[nfc(name)]} and {told}; "
                "give it one"
            )

    def listed(name: str) -> str | None:
        file = PurePosixPath(nfc(name))
        keys = (file.as_posix(), file.name, file.stem)
        return next((known[key] for key in keys if key in known), None)

    return listed
