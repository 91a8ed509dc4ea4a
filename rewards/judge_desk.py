"""Desk: what a judge's client has in one process: its loop, connections, files and totals."""

import asyncio
import sqlite3
import threading
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from .judge_cache import Cache, Kept, Recent
from .judge_calls import Calls
from .judge_cost import Ledger
from .judge_limit import Limit
from .judge_loop import LoopThread
from .judge_recording import Recorder, read_recording
from .judge_settings import JudgeSettings
from .judge_transport import Endpoint, JudgeUnavailable
from .question import Verdict


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be asked once."""

    name: str
    """What it is filed under."""
    ask: Callable[[Calls], Awaitable[Verdict]]
    read: Callable[[str], Mapping[str, Any] | None] | None
    """How a reply that was kept is read again; ``None``: its data were kept."""

    def remember(self, kept: Kept) -> Verdict | None:
        """The verdict that was given before; ``None``: it cannot be read any more."""
        data = kept.data if self.read is None else self.read(kept.raw or "")
        return None if data is None else Verdict(status="ok", data=data, raw=kept.raw, is_cached=True)


@dataclass(frozen=True, slots=True)
class _Line:
    """An open connection to the judge."""

    loop: LoopThread
    limit: Limit
    endpoint: Endpoint
    calls: Calls


class Desk:
    """Answers jobs from the cache or a recording, and asks for the rest; for any number of threads of one process."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._files: ThreadPoolExecutor | None = None
        self._unwritten: deque[tuple[bytes, str, Verdict]] = deque()
        self._failed_in_a_row = 0
        self.ledger = Ledger(settings.model, settings.prices)
        self._replay = None if settings.replay is None else read_recording(settings.replay)
        is_cached = settings.cache_mode != "off" and self._replay is None
        self._cache = (Cache(settings.cache) if settings.cache is not None else Recent()) if is_cached else None
        self._recorder = None if settings.record is None else Recorder(settings.record)

    def answer(self, jobs: Mapping[bytes, Job]) -> dict[bytes, Verdict]:
        """A verdict for each key.

        Raises:
            JudgeUnavailable: There is no judge to be had.
        """
        if self._replay is not None:
            return {key: self._replayed(key, job) for key, job in jobs.items()}
        known: dict[bytes, Verdict] = {}
        if self._cache is not None:
            for key, kept in self._cache.get(list(jobs)).items():
                if (verdict := jobs[key].remember(kept)) is not None:
                    known[key] = verdict
        if self._recorder is not None:
            self._unwritten.extend((key, jobs[key].name, verdict) for key, verdict in known.items())
        missing = {key: job for key, job in jobs.items() if key not in known}
        try:
            if missing:
                line = self._open()
                known.update(line.loop.run(self._ask_all(line, missing)))
        finally:
            self._write()
        return known

    def close(self) -> None:
        """Give up connections; the next job opens them again."""
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.loop.run(line.endpoint.close())
            line.loop.close()

    def _replayed(self, key: bytes, job: Job) -> Verdict:
        assert self._replay is not None
        found = self._replay.get(key)
        if found is None:
            why = f"this {job.name!r} request is not in the recording {self._settings.replay}"
            return Verdict(status="transport", error=why)
        verdict = job.remember(found.kept) if found.status == "ok" else None
        if found.status != "ok":
            return Verdict(status=found.status, raw=found.kept.raw, error=found.error, is_cached=True)
        return verdict or Verdict(status="unparsable", raw=found.kept.raw, error="it cannot be read any more")

    def _open(self) -> _Line:
        with self._lock:
            if self._line is None:
                loop = LoopThread()
                self._line = loop.run(self._connect(loop))
            return self._line

    async def _connect(self, loop: LoopThread) -> _Line:
        limit = Limit(self._settings.concurrency)
        endpoint = Endpoint(self._settings, limit)
        return _Line(loop, limit, endpoint, Calls(self._settings, endpoint, self.ledger))

    async def _ask_all(self, line: _Line, jobs: Mapping[bytes, Job]) -> dict[bytes, Verdict]:
        """Ask as many at once as the limit allows."""
        left = iter(jobs.items())
        verdicts: dict[bytes, Verdict] = {}

        async def worker() -> None:
            for key, job in left:
                async with line.limit:
                    verdicts[key] = await job.ask(line.calls)
                self._keep(key, job, verdicts[key])

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(jobs), self._settings.concurrency.max)):
                    group.create_task(worker())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return verdicts

    def _keep(self, key: bytes, job: Job, verdict: Verdict) -> None:
        """Have a verdict written; stop where nothing comes through any more.

        Raises:
            JudgeUnavailable: One failure too many.
        """
        if not self._unwritten and (self._cache or self._recorder):
            self._writer().submit(self._flush)
        self._unwritten.append((key, job.name, verdict))
        is_lost = verdict.status in ("transport", "timeout")
        self._failed_in_a_row = self._failed_in_a_row + 1 if is_lost else 0
        if self._failed_in_a_row >= self._settings.max_failures:
            self._failed_in_a_row = 0
            raise JudgeUnavailable(
                f"Expected an answer from the judge, got {self._settings.max_failures} failures in a row: "
                f"{verdict.error}"
            )

    def _writer(self) -> ThreadPoolExecutor:
        if self._files is None:
            self._files = ThreadPoolExecutor(1, thread_name_prefix="judge-files")
        return self._files

    def _write(self) -> None:
        """Wait until everything is written."""
        if self._unwritten:
            self._writer().submit(self._flush).result()

    def _flush(self) -> None:
        """In the one thread that writes."""
        some = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
        answers = [row for row in some if row[2].status == "ok" and not row[2].is_cached]
        try:
            if self._cache is not None and self._settings.cache_mode != "read_only" and answers:
                self._cache.put(answers)
            if self._recorder is not None:
                self._recorder.put(some)
        except (OSError, sqlite3.Error) as error:
            warnings.warn(f"Verdicts could not be written: {error}.", RuntimeWarning, stacklevel=1)


def again(verdict: Verdict) -> Verdict:
    """A verdict that answers a second request like the first."""
    return replace(verdict, prompt_tokens=0, completion_tokens=0, cost=0.0, attempts=0, seconds=0.0, is_cached=True)
