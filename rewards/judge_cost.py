"""Ledger and Purse: what judging cost so far, and whether the next call may be made."""

import asyncio
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .judge_settings import Price
from .judge_transport import Reply
from .question import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was asked, and what it cost, since the client was made."""

    requests: int = 0
    """Questions answered or failed; those of an ``ask`` that raised are not among them, though their calls are."""
    calls: int = 0
    """HTTP requests sent."""
    cached: int = 0
    """Answered from the cache, a recording, or a like request of the same batch."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0
    """In the currency of the prices; ``None``: unknown, the model has no price or its server does not count."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """By status."""
    guarded: int = 0
    """Verdicts overruled because the image spoke to the judge."""


class Ledger:
    """Running totals, for any number of threads."""

    def __init__(self, model: str, prices: Mapping[str, Price]) -> None:
        self.spent = 0.0
        """What calls were paid for or, where no one counted, taken to cost; see ``Purse``."""
        self._model = model
        self._price = prices.get(model)
        self._is_warned = False
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._cost: float | None = 0.0

    def usage(self) -> Usage:
        """The totals so far."""
        with self._lock:
            return Usage(cost=self._cost, failures=dict(self._failures), **self._counts)

    def called(self, attempts: int, *, read: int = 0, written: int = 0, cost: float | None = 0.0) -> None:
        """Count HTTP requests when they have ended, whatever becomes of the question."""
        with self._lock:
            self._counts["calls"] += attempts
            self._counts["prompt_tokens"] += read
            self._counts["completion_tokens"] += written
            self._cost = None if self._cost is None or cost is None else self._cost + cost

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Count verdicts that were given; warns the first time that nobody can say what they cost."""
        with self._lock:
            for verdict in verdicts:
                self._counts["requests"] += 1
                self._counts["cached"] += verdict.is_cached
                if verdict.status != "ok":
                    self._failures[verdict.status] += 1
                if verdict.data is not None and verdict.data.get("is_guarded"):
                    self._counts["guarded"] += 1
            is_news, self._is_warned = self._cost is None and not self._is_warned, self._is_warned or self._cost is None
        if is_news:
            lack = "has no price in judge.prices" if self._price is None else "is behind a server that counts no tokens"
            warnings.warn(f"What judging costs is unknown: {self._model!r} {lack}.", RuntimeWarning, stacklevel=3)

    def cost(self, *, read: int, cached: int, written: int, images: int, is_counted: bool = True) -> float | None:
        """What a call cost; ``None``: nobody can say."""
        price = self._price
        if price is None or not is_counted:
            return None
        again = price.input if price.cached is None else price.cached
        tokens = (read - cached) * price.input + cached * again + written * price.output
        return tokens / 1e6 + images * price.image


class Grant(NamedTuple):
    """Money set aside for a call."""

    amount: float = 0.0
    pixels: int = 0
    is_alone: bool = False
    """Whether other calls wait for what this one tells."""


class Purse:
    """What may be spent by one client in one process: money is set aside before a call, and paid after it.

    A call is taken to cost as much as the dearest so far, or as a token for each byte of its text and the longest
    reply would. What images cost in tokens only the server knows: the first call goes alone, and tells; so does the
    first with more pixels than any before, which is taken to cost more by as much as it has more of them. Other
    processes have purses of their own.
    """

    def __init__(self, ledger: Ledger, max_cost: float | None) -> None:
        self._ledger = ledger
        self._max_cost = max_cost
        self._reserved = 0.0
        self._dearest: float | None = None
        self._largest = 0
        self._telling = asyncio.Lock()

    async def reserve(self, *, letters: int, longest: int, images: Sequence[int]) -> Grant | None:
        """Set money aside for a call, of whose images the pixels are given; ``None``: there is not enough left."""
        if self._max_cost is None:
            return Grant()
        await self._telling.acquire()
        pixels = sum(images)
        bound = self._ledger.cost(read=letters, cached=0, written=longest, images=len(images)) or 0.0
        growth = max(1.0, pixels / self._largest) if self._largest else 1.0
        bound = max(bound, (self._dearest or 0.0) * growth)
        is_too_dear = self._ledger.spent + self._reserved + bound > self._max_cost
        is_alone = not is_too_dear and (self._dearest is None or pixels > self._largest)
        if not is_alone:
            self._telling.release()
        if is_too_dear:
            return None
        self._reserved += bound
        return Grant(bound, pixels, is_alone)

    def settle(self, grant: Grant, reply: Reply | None, cost: float | None) -> None:
        """Pay for a call for which money was set aside; without a reply it cost nothing."""
        if self._max_cost is None:
            return
        self._reserved -= grant.amount
        if reply is not None:
            paid = grant.amount if cost is None else cost
            self._ledger.spent += paid
            self._dearest = max(self._dearest or 0.0, paid)
            self._largest = max(self._largest, grant.pixels)
        if grant.is_alone:
            self._telling.release()
