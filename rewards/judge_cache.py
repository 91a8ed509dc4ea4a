"""Cache: verdicts on disk, found again by what was asked.

One SQLite file in write-ahead mode, which many processes may read and write at once. Only answers are kept, never
failures: whatever failed is asked again.
"""

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import time
from typing import Any, NamedTuple

from .question import Verdict

_TABLE = """CREATE TABLE IF NOT EXISTS verdicts (
    key BLOB PRIMARY KEY, question TEXT, model TEXT, data TEXT, raw TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL, time REAL) WITHOUT ROWID"""
_AT_ONCE = 500
"""Keys of one SELECT; SQLite allows 999 parameters everywhere."""
_BUSY_S = 30.0
"""How long a writer waits for another process to finish; a batch takes milliseconds."""


RECENT = 4096
"""Answers that a process remembers without a file: some generations of 64 drawings, 5 MB."""


class Kept(NamedTuple):
    """An answer that was given before."""

    data: dict[str, Any] | None
    """Of a guarded question; ``None``: ``raw`` is to be read again, by the rule of today."""
    raw: str | None


class Cache:
    """The file; for any number of threads of one process.

    Raises:
        ValueError: It is not a cache.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(self._path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a power cut may lose the last verdicts, never the file
            self._db.execute(_TABLE)
            self._db.execute("SELECT key, data, raw FROM verdicts LIMIT 1").fetchone()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise self._broken(error) from error

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """What is known of these keys."""
        known: dict[bytes, Kept] = {}
        try:
            with self._lock:
                for k in range(0, len(keys), _AT_ONCE):
                    some = keys[k : k + _AT_ONCE]
                    marks = ",".join("?" * len(some))
                    rows = self._db.execute(f"SELECT key, data, raw FROM verdicts WHERE key IN ({marks})", some)
                    known.update((key, Kept(data and json.loads(data), raw)) for key, data, raw in rows)
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            raise self._broken(error) from error
        return known

    def put(self, answers: Iterable[tuple[bytes, str, Verdict]]) -> None:
        """Keep answers, each a key, the question's name and a verdict that is ``ok``."""
        now = time()
        rows = [
            (
                key,
                question,
                verdict.model,
                json.dumps(verdict.data, ensure_ascii=False) if _is_guarded_form(verdict) else None,
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
            self._db.close()

    def _broken(self, error: Exception) -> ValueError:
        return ValueError(
            f"Expected a cache of verdicts in {str(self._path)!r}, got a file that cannot be read as one ({error}); "
            "name another with judge.cache, or delete it."
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
                self._kept[key] = Kept(dict(verdict.data or {}) if _is_guarded_form(verdict) else None, verdict.raw)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


def _is_guarded_form(verdict: Verdict) -> bool:
    return verdict.data is not None and "is_guarded" in verdict.data
