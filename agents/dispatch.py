"""Tasks to workers that may be lost: who is idle gets the next one, and what a lost worker held is done again.

Nothing here knows of Ray, or of processes: a ``Backend`` starts workers and passes messages, ``agents.pool`` has the
one for Ray. One thread serves all workers, so that they are never idle while whoever asked is busy with something else.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Worker = Hashable
Ref = Hashable
TICK = 0.05
"""Seconds between two looks at what is done; far below the length of a chunk."""


class Lost(Exception):
    """A worker is gone, and with it what it was doing; it may come back."""


class Gone(Lost):
    """A worker is gone for good."""


class Setup(NamedTuple):
    """What a worker has to be told before a task; it is told once, and again whenever it was restarted."""

    key: Hashable
    """A worker that was told this last needs not be told again."""
    method: str
    """Of the worker; takes what is shared."""
    shared: Any
    """From ``Backend.share``."""


class Task(NamedTuple):
    """A call of a worker's method."""

    method: str
    args: tuple[Any, ...] = ()
    setup: Setup | None = None


class Backend(Protocol):
    """Starts workers and talks to them."""

    def start(self) -> Sequence[Worker]:
        """Start the workers; does not wait until they are ready."""
        ...

    def share(self, value: Any) -> Any:
        """Put aside what all workers will read; kept for as long as the answer is."""
        ...

    def probe(self, worker: Worker) -> Ref:
        """Ask for a sign of life; done when the worker is ready for tasks."""
        ...

    def call(self, worker: Worker, task: Task) -> Ref:
        """Send a task, after its setup if need be."""
        ...

    def wait(self, refs: Sequence[Ref], timeout: float) -> Sequence[Ref]:
        """Those that are done, ``timeout`` seconds later at the latest."""
        ...

    def result(self, ref: Ref) -> Any:
        """The answer to something that is done.

        Raises:
            Lost: The worker was lost before it had answered.
            Gone: So it was, and will not come back.
            Exception: What the worker itself has raised.
        """
        ...

    def close(self) -> None:
        """End the workers."""
        ...


@dataclass(slots=True, eq=False)
class _Job:
    """A task on its way."""

    ticket: "_Ticket"
    index: int
    task: Task
    losses: int = 0


@dataclass(slots=True, eq=False)
class _Ticket:
    """Tasks that were submitted together."""

    size: int
    then: Callable[[int, Any], None] | None
    results: dict[int, Any] = field(default_factory=dict)
    error: BaseException | None = None


class Dispatcher:
    """Shares tasks out among workers and brings their results back in order."""

    def __init__(self, backend: Backend, *, max_retries: int = 3, patience: float = 300.0, pause: float = 1.0) -> None:
        """Args:

        backend: With its workers not yet started.
        max_retries: How often one task may lose its worker; it may be the task that kills them.
        patience: Seconds to wait for the first of the lost workers to come back when none is left. A restarted worker
            loads its model anew, which takes minutes for a large one.
        pause: Seconds between two questions whether a lost worker is back.
        """
        self._backend, self._max_retries, self._patience, self._pause = backend, max_retries, patience, pause
        self._changed = threading.Condition()
        self._queue: deque[_Job] = deque()
        self._idle: deque[Worker] = deque()
        self._pending: dict[Ref, tuple[Worker, _Job | None]] = {}  # no job: a probe
        self._absent: dict[Worker, float] = {}  # to the time of the next probe
        self._lost_since: dict[Worker, float] = {}
        self._tickets: dict[int, _Ticket] = {}
        self._next = self.retries = 0
        self._failure: BaseException | None = None
        self._is_closed = False
        self._workers = list(backend.start())
        for worker in self._workers:
            self._pending[backend.probe(worker)] = (worker, None)
        self._thread = threading.Thread(target=self._serve, name="strokes-dispatch", daemon=True)
        self._thread.start()

    # Asking -----------------------------------------------------------------------------------------

    def share(self, value: Any) -> Any:
        """What ``Setup.shared`` takes; it lives as long as a task that holds it."""
        return self._backend.share(value)

    def submit(self, tasks: Sequence[Task], then: Callable[[int, Any], None] | None = None) -> int:
        """Ask for tasks, which queue up behind those asked for before; their ticket.

        Args:
            tasks: In any number.
            then: Called with (place, result) of each task when it is done, in the thread that serves the workers: to
                pass results on, not to work on them.
        """
        with self._changed:
            self._raise_failure()
            number, self._next = self._next, self._next + 1
            ticket = self._tickets[number] = _Ticket(len(tasks), then)
            self._queue.extend(_Job(ticket, index, task) for index, task in enumerate(tasks))
            self._changed.notify_all()
        return number

    def wait(self, ticket: int) -> list[Any]:
        """All results, in the order of the tasks; a ticket can be waited for once.

        An interruption (Ctrl-C) leaves everything running, and the ticket may be waited for again.

        Raises:
            RuntimeError: No worker is left, or a task lost its worker too often.
            Exception: What a worker has raised; the ticket's other tasks are given up then.
        """
        with self._changed:
            asked = self._tickets[ticket]
            self._changed.wait_for(lambda: len(asked.results) == asked.size or asked.error or self._failure)
            if asked.error is not None or len(asked.results) == asked.size:
                del self._tickets[ticket]
            if asked.error is not None:
                raise asked.error
            if len(asked.results) < asked.size:
                self._raise_failure()
            return [asked.results[index] for index in range(asked.size)]

    @property
    def busy(self) -> list[Worker]:
        """Workers with a task in hand."""
        with self._changed:
            return [worker for worker, job in self._pending.values() if job is not None]

    @property
    def stats(self) -> dict[str, float]:
        """Tasks done again so far, and workers that are there now."""
        with self._changed:
            away = self._absent.keys() | self._lost_since.keys()
            return {"retries": float(self.retries), "workers": float(len(self._workers) - len(away))}

    def close(self) -> None:
        """Give up what is not done, and end the workers; a second time does nothing."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._failure = self._failure or RuntimeError("Expected workers at work, got a pool that is closed.")
            self._changed.notify_all()
        self._thread.join(timeout=10)
        self._backend.close()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # Serving ----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed or self._pending or self._absent or self._queue)
                    if self._is_closed:
                        return
                    self._look_for_absent()
                    self._hand_out()
                    refs = list(self._pending)
                if not refs:
                    time.sleep(TICK)
                for ref in self._backend.wait(refs, TICK) if refs else ():
                    self._settle(ref)
        except Exception as error:
            with self._changed:  # whoever waits must hear of it
                self._failure = self._failure or error
                self._changed.notify_all()

    def _hand_out(self) -> None:
        while self._queue and self._idle:
            job = self._queue.popleft()
            if job.ticket.error is None:
                worker = self._idle.popleft()
                self._pending[self._backend.call(worker, job.task)] = (worker, job)

    def _look_for_absent(self) -> None:
        now = time.monotonic()
        for worker in [worker for worker, due in self._absent.items() if due <= now]:
            del self._absent[worker]
            self._pending[self._backend.probe(worker)] = (worker, None)
        since = [self._lost_since.get(worker, now) for worker in self._workers]
        if now - max(since) > self._patience:
            raise RuntimeError(
                f"Expected one of {len(since)} workers to come back, got none for {self._patience:g} seconds; see "
                "Ray's logs for what ended them."
            )

    def _settle(self, ref: Ref) -> None:
        """Take note of an answer."""
        worker, job = self._pending[ref]
        answer, error = None, None
        try:
            answer = self._backend.result(ref)
            if job is not None and job.ticket.then is not None:
                job.ticket.then(job.index, answer)
        except Exception as raised:  # a worker's own errors are handed to whoever waits
            error = raised
        with self._changed:
            del self._pending[ref]
            if isinstance(error, Lost):
                self._lose(worker, job, error)
            else:
                self._lost_since.pop(worker, None)
                self._idle.append(worker)
                self._answer(job, answer, error)
            self._changed.notify_all()

    def _answer(self, job: _Job | None, answer: Any, error: BaseException | None) -> None:
        if job is None:
            if error is not None:  # a worker that cannot even be made
                raise error
        elif error is not None:
            job.ticket.error = job.ticket.error or error
        else:
            job.ticket.results[job.index] = answer

    def _lose(self, worker: Worker, job: _Job | None, error: Lost) -> None:
        now = time.monotonic()
        self._lost_since.setdefault(worker, now)
        if job is None and isinstance(error, Gone):
            self._workers.remove(worker)
            del self._lost_since[worker]
            if not self._workers:
                raise RuntimeError(f"Expected a worker that is alive, got none: all are gone for good. {error}")
            return
        self._absent[worker] = now + (self._pause if job is None else 0.0)
        if job is None:
            return
        self.retries += 1
        job.losses += 1
        if job.losses > self._max_retries:
            job.ticket.error = RuntimeError(
                f"Expected task {job.index} to be done, got {job.losses} workers lost over it, one after the other. "
                f"{error}"
            )
        else:
            self._queue.appendleft(job)
