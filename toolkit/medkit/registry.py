"""Registries: the things of one kind that are known, each by a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Registry(Generic[Thing]):
    """The things of one kind, in the order in which they were registered.

    What medkit itself brings comes first. A plug-in can add to it, and can
    neither replace it nor come before it.

    Parameters
    ----------
    kind
        The word for one of the things, for messages.
    name_of
        Returns the name of a thing.
    built_in
        Modules of medkit that register things when they are imported.
    """

    def __init__(
        self, kind: str, name_of: Callable[[Thing], str], built_in: Sequence[str] = ()
    ) -> None:
        self._kind, self._name_of, self._built_in = kind, name_of, built_in
        self._things: dict[str, Thing] = {}

    def add(self, thing: Thing) -> None:
        """Register a thing. Raise :class:`ValueError` if its name is taken."""
        # A built-in module registers its things before the next one is imported.
        if type(thing).__module__ not in self._built_in:
            self._load()
        name = self._name_of(thing)
        if name in self._things:
            raise ValueError(f"there is an {self._kind} {name!r} already; choose another name")
        self._things[name] = thing

    def all(self) -> dict[str, Thing]:
        """Return every thing by its name."""
        self._load()
        places = {module: place for place, module in enumerate(self._built_in)}
        things = self._things.items()
        # Somebody may have imported one of the built-in modules before the others.
        return dict(
            sorted(things, key=lambda item: places.get(type(item[1]).__module__, len(places)))
        )

    def _load(self) -> None:
        for module in self._built_in:
            import_module(module)
