"""Recording: every verdict of a run, so that it can be scored again without a server.

One JSON line per verdict, failures included: a replay fails where the run failed, and nowhere else. There are no
headers, keys or images in it, only what was decided, what was said, and behind which address.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from .judge_cache import Kept, kept_data
from .question import STATUSES, Status, Verdict

FORMAT = "strokes/verdicts"


class Recorded(NamedTuple):
    """A verdict as it was recorded."""

    status: Status
    kept: Kept
    error: str
    server: str
    """Where it was given; "" in old recordings."""


class Recorder:
    """A file that grows by a line per verdict; what it holds already is not written again.

    Args:
        path: Where it is.
        server: Who gives the verdicts.
    """

    def __init__(self, path: str, server: str) -> None:
        self._server = server
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
                file.write("".join(lines).encode("utf-8", "replace"))

    def _record(self, key: bytes, question: str, verdict: Verdict) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "key": key.hex(),
            "question": question,
            "server": self._server,
            "model": verdict.model,
            "status": verdict.status,
            "data": kept_data(verdict),
            "raw": verdict.raw,
            "error": verdict.error,
            "prompt_tokens": verdict.prompt_tokens,
            "completion_tokens": verdict.completion_tokens,
            "cost": verdict.cost,
        }


def read_recording(path: str) -> dict[bytes, Recorded]:
    """Verdicts by key; the last line of a key counts, but no failure takes the place of an answer.

    Several processes write to a file, and one may have failed where another was answered. A line that was cut is left
    out.

    Raises:
        ValueError: There is no such file, or a line of it is no verdict.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"Expected a recording of verdicts, got {path!r}, which is no file.")
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    found: dict[bytes, Recorded] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if record["format"] != FORMAT or record["status"] not in STATUSES:
                raise ValueError("another format")
            kept = Kept(record["data"], record["raw"])
            key = bytes.fromhex(record["key"])
            if record["status"] == "ok" or key not in found or found[key].status != "ok":
                found[key] = Recorded(record["status"], kept, record["error"], record.get("server", ""))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if not _is_torn(line):
                raise ValueError(f"Expected a verdict in line {number} of {path!r}, got {line[:80]!r}.") from error
    return found


def _is_torn(line: str) -> bool:
    """Whether a run was killed while it wrote this line."""
    return line.startswith('{"format"') and not line.endswith("}")
