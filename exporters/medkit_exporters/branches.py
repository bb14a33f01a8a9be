"""How much of a branch's range an addition needs, for both formats."""

from __future__ import annotations

Range = tuple[float, float]


def needed_range(own: Range, other: Range, top: float) -> Range:
    """Return the part of a branch's range that can change a rectified sum.

    Parameters
    ----------
    own, other
        Lowest and highest value of the branch, and of the one it is added to.
    top
        Where the rectified sum ends.

    Returns
    -------
    tuple of float
        Within ``own``, and around 0.
    """
    low = max(own[0], -other[1])
    high = min(own[1], top - min(other[0], 0.0))
    return min(low, 0.0), max(high, low + 1e-6, 0.0)
