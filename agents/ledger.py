"""Ledger: what drawings cost, by prompt and altogether."""

from collections.abc import Hashable, Iterable
from dataclasses import asdict, fields

from ..envs.protocols import Cost


class Ledger:
    """Costs booked under a key, such as a prompt; several bookings of a key are several canvases.

    Example:
        >>> from strokes.agents.ledger import Ledger
        >>> from strokes.envs.protocols import Cost
        >>> ledger = Ledger()
        >>> ledger.book("a red circle", Cost(steps=12, nfe=24))
        >>> ledger.book("a red circle", Cost(steps=24, nfe=48))
        >>> ledger.total.steps, ledger.mean("steps"), ledger.by_key()["a red circle"].nfe
        (36, 18.0, 72)
    """

    def __init__(self) -> None:
        self._booked: list[tuple[Hashable, Cost]] = []

    def book(self, key: Hashable, cost: Cost) -> None:
        """Add what one canvas cost."""
        self._booked.append((key, cost))

    def __len__(self) -> int:
        """Canvases booked."""
        return len(self._booked)

    @property
    def total(self) -> Cost:
        """Everything together."""
        return total(cost for _, cost in self._booked)

    def by_key(self) -> dict[Hashable, Cost]:
        """The sum of each key, in the order of first booking."""
        sums: dict[Hashable, Cost] = {}
        for key, cost in self._booked:
            sums[key] = sums.get(key, Cost()) + cost
        return sums

    def mean(self, name: str) -> float:
        """Mean of one kind of cost per canvas; ``ValueError`` for an unknown kind or an empty ledger."""
        names = [field.name for field in fields(Cost)]
        if name not in names:
            raise ValueError(f"Expected one of {', '.join(names)}, got {name!r}.")
        if not self._booked:
            raise ValueError("Expected at least one booking to take a mean of, got none.")
        return getattr(self.total, name) / len(self)

    def table(self) -> dict[str, float]:
        """Mean of every kind of cost per canvas; empty where nothing is booked."""
        return {name: self.mean(name) for name in asdict(Cost())} if self._booked else {}


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of costs."""
    return sum(costs, Cost())
