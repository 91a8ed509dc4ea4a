"""Recording: every verdict of a run, so that it can be scored again without a server.

One JSON line per verdict, failures included: a replay fails where the run failed. There are no headers, keys or
images in it, only what was decided and what was said.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .judge_cache import Kept
from .question import STATUSES, Status, Verdict

FORMAT = "strokes/verdicts"


class Recorded(NamedTuple):
    """A verdict as it was recorded."""

    status: Status
    kept: Kept
    error: str


class Recorder:
    """A file that grows by a line per verdict; what it holds already is not written again."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._known = {key: at.status for key, at in read_recording(path).items()} if self._path.exists() else {}
        text = self._path.read_bytes() if self._path.exists() else b""
        if text and not text.endswith(b"\n"):  # cut in the middle: its torn line ends here
            with self._path.open("ab") as file:
                file.write(b"\n")

    def put(self, verdicts: Iterable[tuple[bytes, str, Verdict]]) -> None:
        """Write verdicts, each a key, the question's name and the verdict."""
        lines = []
        for key, question, verdict in verdicts:
            if self._known.get(key) in ("ok", verdict.status):
                continue
            self._known[key] = verdict.status
            lines.append(json.dumps(self._record(key, question, verdict), ensure_ascii=False) + "\n")
        if lines:
            with self._path.open("ab", buffering=0) as file:  # one write: other processes write to it, too
                file.write("".join(lines).encode())

    def _record(self, key: bytes, question: str, verdict: Verdict) -> dict[str, Any]:
        is_guarded = verdict.data is not None and "is_guarded" in verdict.data
        return {
            "format": FORMAT,
            "key": key.hex(),
            "question": question,
            "model": verdict.model,
            "status": verdict.status,
            "data": verdict.data if is_guarded else None,
            "raw": verdict.raw,
            "error": verdict.error,
            "prompt_tokens": verdict.prompt_tokens,
            "completion_tokens": verdict.completion_tokens,
            "cost": verdict.cost,
        }


def read_recording(path: str) -> dict[bytes, Recorded]:
    """Verdicts by key; the last line of a key counts. A last line that was cut is left out.

    Raises:
        ValueError: There is no such file, or a line of it is no verdict.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"Expected a recording of verdicts, got {path!r}, which is no file.")
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if record["format"] != FORMAT or record["status"] not in STATUSES:
                raise ValueError("another format")
            kept = Kept(record["data"], record["raw"])
            found[bytes.fromhex(record["key"])] = Recorded(record["status"], kept, record["error"])
        except (ValueError, KeyError, TypeError) as error:
            if not _is_torn(line):
                raise ValueError(f"Expected a verdict in line {number} of {path!r}, got {line[:80]!r}.") from error
    return found


def _is_torn(line: str) -> bool:
    """Whether a run was killed while it wrote this line."""
    return line.startswith('{"format"') and not line.endswith("}")
