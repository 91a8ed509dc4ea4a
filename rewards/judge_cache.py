"""Cache: verdicts on disk, found again by what was asked.

One SQLite file in write-ahead mode, which many processes may read and write at once. Only answers are kept, never
failures: whatever failed is asked again.
"""

import json
import random
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, NamedTuple

from .question import Verdict

_TABLE = """CREATE TABLE IF NOT EXISTS verdicts (
    key BLOB PRIMARY KEY, question TEXT, model TEXT, data TEXT, raw TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL, time REAL) WITHOUT ROWID"""
_AT_ONCE = 500
"""Keys of one SELECT; SQLite allows 999 parameters everywhere."""
_BUSY_S = 30.0
"""How long a writer waits for another process to finish; a batch takes milliseconds."""
_BUSY = ("locked", "busy")


RECENT = 4096
"""Answers that a process remembers without a file: some generations of 64 drawings, 5 MB."""


class Kept(NamedTuple):
    """An answer that was given before."""

    data: dict[str, Any] | None
    """Of a guarded question; ``None``: ``raw`` is to be read again, by the rule of today."""
    raw: str | None


class Cache:
    """The file; for any number of threads of one process.

    Args:
        path: Where it is; made, with its folders, if need be.
        is_read_only: Only read it; a missing file is an empty one, and is not made.

    Raises:
        ValueError: It is not a cache.
    """

    def __init__(self, path: str, *, is_read_only: bool = False) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        if is_read_only and not self._path.exists():
            return
        try:
            if not is_read_only:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            where = f"{self._path.absolute().as_uri()}?mode={'ro' if is_read_only else 'rwc'}"
            self._db = sqlite3.connect(where, timeout=_BUSY_S, check_same_thread=False, isolation_level=None, uri=True)
            self._prepare(self._db, is_read_only)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise self._broken(error) from error

    def _prepare(self, db: sqlite3.Connection, is_read_only: bool) -> None:
        """Have the table; processes that make a file together lock each other out of it for a moment."""
        until = monotonic() + _BUSY_S
        while True:
            try:
                if not is_read_only:
                    db.execute("PRAGMA journal_mode=WAL")
                    db.execute("PRAGMA synchronous=NORMAL")  # a power cut may lose the last verdicts, never the file
                    db.execute(_TABLE)
                db.execute("SELECT key, data, raw FROM verdicts LIMIT 1").fetchone()
                return
            except sqlite3.OperationalError as error:
                if monotonic() >= until or not any(word in str(error) for word in _BUSY):
                    raise
                sleep(random.uniform(0.005, 0.05))

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """What is known of these keys."""
        known: dict[bytes, Kept] = {}
        if self._db is None:
            return known
        try:
            with self._lock:
                for k in range(0, len(keys), _AT_ONCE):
                    some = keys[k : k + _AT_ONCE]
                    marks = ",".join("?" * len(some))
                    rows = self._db.execute(f"SELECT key, data, raw FROM verdicts WHERE key IN ({marks})", some)
                    known.update((key, Kept(data and json.loads(data), raw)) for key, data, raw in rows)
        except (sqlite3.Error, ValueError) as error:
            raise self._broken(error) from error
        return known

    def put(self, answers: Iterable[tuple[bytes, str, Verdict]]) -> None:
        """Keep answers, each a key, the question's name and a verdict that is ``ok``."""
        assert self._db is not None
        now = time()
        rows = [
            (
                key,
                question,
                verdict.model,
                None if (data := kept_data(verdict)) is None else json.dumps(data, ensure_ascii=False),
                verdict.raw,
                verdict.prompt_tokens,
                verdict.completion_tokens,
                verdict.cost,
                now,
            )
            for key, question, verdict in answers
        ]
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO verdicts VALUES (?,?,?,?,?,?,?,?,?)", rows)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()

    def _broken(self, error: Exception) -> ValueError:
        is_sound = isinstance(error, sqlite3.OperationalError | OSError)  # of the system, not of what is in the file
        remedy = "name another with judge.cache" + ("" if is_sound else ", or delete it")
        return ValueError(
            f"Expected a cache of verdicts in {str(self._path)!r}, got a file that cannot be read as one ({error}); "
            f"{remedy}."
        )


class Recent:
    """The last answers of a process, where there is no file; for any number of threads.

    An environment that is judged after every emission asks again about all earlier ones.
    """

    def __init__(self, size: int = RECENT) -> None:
        self._size, self._lock = size, threading.Lock()
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """What is known of these keys."""
        with self._lock:
            return {key: self._kept[key] for key in keys if key in self._kept}

    def put(self, answers: Iterable[tuple[bytes, str, Verdict]]) -> None:
        """Keep answers as ``Cache.put`` does, and forget the oldest ones."""
        with self._lock:
            for key, _, verdict in answers:
                self._kept[key] = Kept(kept_data(verdict), verdict.raw)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


def kept_data(verdict: Verdict) -> dict[str, Any] | None:
    """What is kept of a verdict beside its words: the data of a guarded question."""
    data: Mapping[str, Any] = verdict.data or {}
    return dict(data) if "is_guarded" in data else None
