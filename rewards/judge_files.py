"""Files: what a judge's client keeps on disk, and the one thread that writes it.

Writing never holds up asking; but an answer is in its files before ``ask`` returns it.
"""

import sqlite3
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from .judge_cache import Cache, Kept, Recent
from .judge_recording import Recorder
from .judge_settings import JudgeSettings
from .question import Verdict


class Row(NamedTuple):
    """A verdict to be written."""

    key: bytes
    question: str
    verdict: Verdict


class Files:
    """Cache and recording, open; for any number of threads of one process.

    Raises:
        ValueError: One of them is something else.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        self._is_read_only = settings.cache_mode == "read_only"
        self._cache: Cache | Recent | None = None
        if settings.cache_mode != "off" and settings.cache is not None:
            self._cache = Cache(settings.cache, is_read_only=self._is_read_only)
        elif settings.cache_mode != "off":
            self._cache = Recent()
        self._recorder = None if settings.record is None else Recorder(settings.record, settings.server)
        self._unwritten: deque[Row] = deque()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="judge-files")
        self._lock = threading.Lock()
        self._users, self._is_left = 0, False

    def held(self) -> "Files":
        """These files, not to be closed before a ``with`` block of theirs ends."""
        with self._lock:
            self._users += 1
        return self

    def __enter__(self) -> "Files":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
        self._end()

    def known(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """What was answered before."""
        return {} if self._cache is None else self._cache.get(keys)

    def remembered(self, rows: Iterable[Row]) -> None:
        """Note verdicts that come from the cache: a recording is to hold them, too."""
        if self._recorder is not None:
            self._unwritten.extend(rows)

    def keep(self, row: Row) -> None:
        """Have a verdict written."""
        is_idle = not self._unwritten
        self._unwritten.append(row)
        if is_idle:
            self._writer.submit(self._flush)

    def wait(self) -> None:
        """Until everything that is to be kept is written, by whichever thread it was given."""
        self._writer.submit(self._flush).result()

    def close(self) -> None:
        """Close the files, once whoever uses them is done."""
        self._is_left = True
        self._end()

    def _end(self) -> None:
        with self._lock:
            if self._users or not self._is_left:
                return
            self._is_left = False
        self._writer.shutdown()
        if isinstance(self._cache, Cache):
            self._cache.close()

    def _flush(self) -> None:
        """In the one thread that writes."""
        some = [self._unwritten.popleft() for _ in range(len(self._unwritten))]
        answers = [row for row in some if row.verdict.status == "ok" and not row.verdict.is_cached]
        try:
            if self._cache is not None and not self._is_read_only and answers:
                self._cache.put(answers)
            if self._recorder is not None and some:
                self._recorder.put(some)
        except (OSError, sqlite3.Error, ValueError, OverflowError) as error:
            warnings.warn(f"Verdicts could not be written: {error}.", RuntimeWarning, stacklevel=1)
