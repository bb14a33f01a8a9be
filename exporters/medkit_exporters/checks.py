"""What an int8 file must be before it gets that name."""

from __future__ import annotations

from medkit.census import Census
from medkit.errors import ExportError


def check_integers(census: Census) -> None:
    """Check that all but what has a reason not to computes in integers.

    Raises
    ------
    ExportError
        That names the operator with the most work that does not.
    """
    unexplained = [operator for operator in census.floating if not operator.reason]
    if unexplained:
        worst = max(unexplained, key=lambda operator: operator.work)
        raise ExportError(
            f"{worst.kind} {worst.name} computes in {worst.computes_in}, not in integers "
            f"({len(unexplained)} operators do; {census.integer_share:.0%} of the work is in "
            "integers)"
        )
