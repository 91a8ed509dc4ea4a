"""Desk: what a judge's client has in one process: its loop, connections, files and totals."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .judge_cache import Kept
from .judge_calls import Calls
from .judge_cost import Ledger
from .judge_files import Files, Row
from .judge_limit import Limit
from .judge_loop import LoopThread
from .judge_recording import read_recording
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
        self._files: Files | None = None
        self._failed_in_a_row = 0
        self.ledger = Ledger(settings.model, settings.prices)
        self._replay = None if settings.replay is None else read_recording(settings.replay)
        self._recorded_at = sorted({one.server for one in (self._replay or {}).values() if one.server})

    def answer(self, jobs: Mapping[bytes, Job]) -> dict[bytes, Verdict]:
        """A verdict for each key.

        Raises:
            JudgeUnavailable: There is no judge to be had.
        """
        if self._replay is not None:
            return {key: self._replayed(key, job) for key, job in jobs.items()}
        with self._open_files() as files:
            known: dict[bytes, Verdict] = {}
            for key, kept in files.known(list(jobs)).items():
                if (verdict := jobs[key].remember(kept)) is not None:
                    known[key] = verdict
            files.remembered(Row(key, jobs[key].name, verdict) for key, verdict in known.items())
            missing = {key: job for key, job in jobs.items() if key not in known}
            try:
                if missing:
                    line = self._open()
                    known.update(line.loop.run(self._ask_all(line, files, missing)))
            finally:
                if missing or self._settings.record is not None:
                    files.wait()
        return known

    def close(self) -> None:
        """Give up connections and files; the next job opens them again."""
        with self._lock:
            line, self._line = self._line, None
            files, self._files = self._files, None
        if line is not None:
            line.loop.close(line.endpoint.close())
        if files is not None:
            files.close()

    def _open_files(self) -> Files:
        with self._lock:
            if self._files is None:
                self._files = Files(self._settings)
            return self._files.held()

    def _replayed(self, key: bytes, job: Job) -> Verdict:
        assert self._replay is not None
        found = self._replay.get(key)
        if found is None:
            made = f", made with {' and '.join(self._recorded_at)}" if self._recorded_at else ""
            asked = f"{self._settings.model!r} of {self._settings.server}"
            why = f"this {job.name!r} request to {asked} is not in the recording {self._settings.replay}{made}"
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

    async def _ask_all(self, line: _Line, files: Files, jobs: Mapping[bytes, Job]) -> dict[bytes, Verdict]:
        """Ask as many at once as the limit allows."""
        left = iter(jobs.items())
        verdicts: dict[bytes, Verdict] = {}

        async def worker() -> None:
            for key, job in left:
                async with line.limit:
                    verdicts[key] = await job.ask(line.calls)
                files.keep(Row(key, job.name, verdicts[key]))
                self._stop_at_failures(verdicts[key])

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(jobs), self._settings.concurrency.max)):
                    group.create_task(worker())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return verdicts

    def _stop_at_failures(self, verdict: Verdict) -> None:
        """Raises ``JudgeUnavailable`` at one failure too many in a row."""
        is_lost = verdict.status in ("transport", "timeout")
        self._failed_in_a_row = self._failed_in_a_row + 1 if is_lost else 0
        if self._failed_in_a_row >= self._settings.max_failures:
            self._failed_in_a_row = 0
            raise JudgeUnavailable(
                f"Expected an answer from the judge, got {self._settings.max_failures} failures in a row: "
                f"{verdict.error}"
            )


def again(verdict: Verdict) -> Verdict:
    """A verdict that answers a second request like the first."""
    return replace(verdict, prompt_tokens=0, completion_tokens=0, cost=0.0, attempts=0, seconds=0.0, is_cached=True)
