"""The patterns of ``--include`` and ``--exclude``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase, translate

from medkit.system.names import composed, name_in_rows

_SAYS_SOMETHING = re.compile(r"\w")


class Patterns:
    """Patterns of :mod:`fnmatch`, in which ``*`` also matches a slash.

    They are compared, ignoring case, with the path relative to the argument
    and with the bare name: as written, and with accents as one with their
    letters.

    Parameters
    ----------
    include
        If there are any, a file must match one. One that spells a file's
        suffix also takes files that are not listed as images; see
        :meth:`bring_in`.
    exclude
        A file that matches one is left out, and so is a sub-folder with all
        that it holds.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include, self._exclude = _plain(include), _plain(exclude)
        self._included, self._excluded = _matcher(self._include), _matcher(self._exclude)
        self._spelled = [(_last(pattern), _matcher([pattern])) for pattern in self._include]
        self.any = bool(include or exclude)

    def let_through(self, relative: str, *, is_folder: bool = False) -> bool:
        """Whether a file or folder is not left out."""
        if not self.any:
            return True
        forms = _forms(relative)
        wanted = is_folder or not self._include or self._included(forms)
        return wanted and not (bool(self._exclude) and self._excluded(forms))

    def bring_in(self, relative: str, suffix: str) -> bool:
        """Whether an included file is taken although it is not listed as an image.

        Parameters
        ----------
        relative
            Path relative to the argument.
        suffix
            Its suffix in small letters; empty if it has none.

        Returns
        -------
        bool
            ``scans/*`` and ``person1*`` choose among images, as they always
            did. ``*.dcm`` spells the suffix, ``IM_*`` the name of a file that
            has none, and ``.*`` the dot of a hidden file.
        """
        if not self._include:
            return False
        forms = _forms(relative)
        hidden = _last(relative).startswith(".")
        return any(
            _spells(last, suffix, hidden) and matches(forms) for last, matches in self._spelled
        )

    def lead_into(self, folder: str) -> bool:
        """Whether a hidden folder with this name is looked into, because a pattern names it."""
        forms = _forms(folder)
        return any(
            part[:1] == folder[:1] and any(fnmatchcase(form, part) for form in forms)
            for pattern in self._include
            for part in pattern.split("/")[:-1]
        )


def _plain(patterns: Iterable[str]) -> list[str]:
    # "./scans/" is a habit of shells and means the folder "scans".
    return [name_in_rows(pattern).lower().removeprefix("./").rstrip("/") for pattern in patterns]


def _matcher(patterns: Sequence[str]) -> Callable[[Iterable[str]], bool]:
    """Return what tells whether any form of a path matches any of the patterns."""
    forms = dict.fromkeys(form for pattern in patterns for form in (pattern, composed(pattern)))
    found = re.compile("|".join(translate(form) for form in forms)).match
    return lambda texts: any(found(text) for text in texts)


def _forms(relative: str) -> set[str]:
    path = name_in_rows(relative).lower()
    forms = {path, composed(path)}
    return forms | {_last(form) for form in forms}


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _spells(last: str, suffix: str, hidden: bool) -> bool:
    """Whether the last part of a pattern names such files, rather than all that there are."""
    if hidden:
        return last.startswith(".")  # as in shells
    if not suffix:
        return bool(_SAYS_SOMETHING.search(last))
    spelled = last[last.rfind(".") :] if "." in last else ""
    return bool(_SAYS_SOMETHING.search(spelled)) and fnmatchcase(suffix, spelled)
