"""Limit: how many requests are under way at once, found out by trying.

As TCP does: twice as many after every round of answers until the server first pushes back, from then on a few more per
round, and a fifth fewer at every push, at most one per cooldown. Shares and cooldown are those of inspect_ai.
"""

import asyncio
from collections import deque
from time import monotonic

from .judge_settings import Concurrency

GROWTH, CUT, COOLDOWN_S, SATURATED = 1.05, 0.8, 15.0, 0.8


class Limit:
    """A semaphore that widens and narrows; use it with ``async with``, in one event loop."""

    def __init__(self, concurrency: Concurrency) -> None:
        self.concurrency = concurrency
        self.width = concurrency.start
        self.running = 0
        self._answers = 0
        self._is_starting = True
        self._cut_at = -COOLDOWN_S
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        while self.running >= self.width:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                else:  # it was woken already, and another may go in its place
                    self._wake()
                raise
        self.running += 1

    async def __aexit__(self, *_: object) -> None:
        self.running -= 1
        self._wake()

    def answered(self) -> None:
        """The server answered; a round of answers while the width was used widens it."""
        if self.running < SATURATED * self.width:
            return
        self._answers += 1
        if self._answers >= self.width:
            self._answers = 0
            wider = self.width * 2 if self._is_starting else max(self.width + 1, int(self.width * GROWTH))
            self.width = min(self.concurrency.max, wider)
            self._wake()

    def pushed_back(self) -> None:
        """The server asked for fewer requests."""
        self._is_starting, self._answers = False, 0
        if monotonic() - self._cut_at >= COOLDOWN_S:
            self._cut_at = monotonic()
            self.width = max(self.concurrency.min, int(self.width * CUT))

    def _wake(self) -> None:
        free = self.width - self.running
        while self._waiting and free > 0:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1
