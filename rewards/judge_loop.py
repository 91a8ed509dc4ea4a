"""LoopThread: an event loop of its own, in a thread of its own.

An asynchronous client belongs to the loop in which it first ran. With a loop that nobody else starts or stops it can be
called from anywhere: plain code, threads, a notebook whose loop is running.
"""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """A running event loop; its thread ends with the process at the latest."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock, self._is_open = threading.Lock(), True
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge", daemon=True)
        self._thread.start()

    def run(self, task: Coroutine[Any, Any, T]) -> T:
        """The task's result; a caller that is interrupted takes the task with it.

        Raises:
            CancelledError: The loop was closed before, or meanwhile.
        """
        with self._lock:
            if not self._is_open:
                task.close()
                raise CancelledError
            future = asyncio.run_coroutine_threadsafe(task, self._loop)
        return _awaited(future)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Stop the loop, with whatever is still running in it, and wait for its thread; ``last`` is run at the end."""
        with self._lock:  # what was submitted before is cancelled, and nothing is after
            self._is_open = False
            future = asyncio.run_coroutine_threadsafe(_end(last), self._loop)
        _awaited(future)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _awaited(future: Future[T]) -> T:
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _end(last: Coroutine[Any, Any, None]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await last
