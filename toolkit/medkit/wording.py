"""Words that messages have in common: numbers with their nouns, and names that are nearly right."""

from __future__ import annotations

from collections.abc import Iterable


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 image``, ``1,024 images``.

    Parameters
    ----------
    number
        How many there are.
    noun
        The noun for one.
    plural
        The noun for several; by default with an ``s`` at its end.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def nearest(name: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """Return the known name that somebody may have meant, or ``None`` if none is near.

    Letter case does not count. A name that begins as typed is near, too:
    ``pneu`` means ``pneumonia`` if no other name begins so.

    Parameters
    ----------
    name, known
        The name as it was given, and those that are accepted.
    alike
        How much both must have in common otherwise, 0..1; see :mod:`difflib`.
    """
    from difflib import get_close_matches  # only an error needs it

    by_folded = {one.casefold(): one for one in known}
    folded = name.casefold()
    close = get_close_matches(folded, by_folded, n=1, cutoff=alike)
    if not close and folded:
        begun = [one for one in by_folded if one.startswith(folded)]
        close = begun if len(begun) == 1 else []
    return by_folded[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean pneumonia? `` for a name that is nearly right, else nothing."""
    meant = nearest(name, known)
    return f"did you mean {meant}? " if meant is not None else ""


def unknown(kind: str, name: str, known: Iterable[str], of: str = "") -> str:
    """Return the message about a name that is none of the known ones.

    Parameters
    ----------
    kind
        Word for what the name should be, such as ``runtime``.
    name
        The name as it was given.
    known
        The names that are accepted, in the order to show them.
    of
        What accepts them, if it is not medkit as a whole, such as a task.
    """
    names = list(known)
    owner = f" for {of}" if of else ""
    return (
        f"unknown {kind} {name!r}{owner}; {did_you_mean(name, names)}accepted: {', '.join(names)}"
    )


class Remark(str):
    """A line about the result, where others are about the step that begins.

    Libraries give both to one function. A terminal shows a step until the
    next one begins, and keeps a remark.
    """

    __slots__ = ()
