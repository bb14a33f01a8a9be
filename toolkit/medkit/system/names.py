"""Names of files as rows hold them: the same in every locale, and comparable.

A name is bytes to most systems, and Python makes text of them by the locale.
Rows hold the text that UTF-8 makes of the bytes; a byte that is not UTF-8 is
a lone surrogate. So a run that was begun in one locale is continued in
another. macOS takes names apart where others leave them whole: "é" is one
character, or "e" and an accent. Both are the same to a person, and to
patterns. In a folder of Linux both can lie beside each other, so a name as it
is written goes before one that only looks like it.
"""

from __future__ import annotations

import os
import sys
import unicodedata

_UTF_8 = sys.getfilesystemencoding().lower() == "utf-8"


def name_in_rows(name: str) -> str:
    """Return the name of a file as rows hold it, whatever the locale is."""
    if _UTF_8 or name.isascii() or os.name == "nt":
        return name
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def name_on_disk(name: str) -> str:
    """Return the name by which this process opens a file, of its name in a row."""
    if _UTF_8 or name.isascii() or os.name == "nt":
        return name
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def in_utf8(name: str) -> str:
    """Return the name in a row as :func:`name_in_rows` gives it, where a locale made another."""
    if name.isascii():
        return name
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return name  # of Windows, or of another program


def composed(name: str) -> str:
    """Return a name in Unicode's normal form C, in which accents are one with their letters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
