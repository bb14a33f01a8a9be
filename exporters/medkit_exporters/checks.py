"""What an int8 file must be before it gets that name."""

from __future__ import annotations

from medkit.census import PRODUCTS, Census
from medkit.errors import ExportError


def check_integers(census: Census) -> None:
    """Check that products compute in int8, and all else without a reason not to in integers.

    Raises
    ------
    ExportError
        That names the operator with the most work that does not.
    """
    unexplained = [
        operator
        for operator in census.operators
        if (operator in census.floating and not operator.reason)
        or (operator.kind in PRODUCTS and operator.computes_in != "int8")
    ]
    if unexplained:
        worst = max(unexplained, key=lambda operator: operator.work)
        raise ExportError(
            f"{worst.kind} {worst.name} computes in {worst.computes_in}, not in int8 "
            f"({len(unexplained)} operators do; {census.integer_share:.0%} of the work is in "
            "integers)"
        )
