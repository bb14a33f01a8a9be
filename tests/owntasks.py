"""Tasks that are not built in; the fixture ``own_models`` has models of them."""

from __future__ import annotations

from medkit.images.contract import InputContract
from medkit.tasks import Task

OWN = (
    Task(
        name="hues",
        title="nine hues",
        labels=tuple(f"hue {number}" for number in range(9)),
        contract=InputContract(width=96, height=64, channels=3),
        positive=None,
        alert="hue 3",
    ),
    Task(
        name="brightness",
        title="dark and bright pictures",
        labels=("dark", "bright"),
        contract=InputContract(width=64, height=64, channels=1),
        positive="bright",
        alert="bright",
    ),
)
