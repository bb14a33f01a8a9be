"""Packages of the extra ``formats``, without which a file is refused and the run goes on."""

from __future__ import annotations

from medkit.errors import ImageError, MissingExtraError
from medkit.extras import require


def need(purpose: str, *modules: str) -> None:
    """Check that packages of the extra are installed. Nothing is imported.

    Raises
    ------
    ImageError
        If one is not. The message names the extra.
    """
    try:
        require(purpose, *modules)
    except MissingExtraError as error:
        raise ImageError(str(error)) from None
