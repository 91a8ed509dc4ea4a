"""EvaluationFolder: what an evaluation leaves behind, chunk by chunk, so that a killed one goes on where it stood.

A chunk's transcripts are written first, then its drawings are appended to ``results.jsonl`` and synced: a chunk
whose lines are all there is drawn, and whatever else an interrupted write left is dropped and drawn again. What is
found out about a drawing later is another line, which takes the place of the first one.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..agents.run_folder import is_free, leaves
from ..envs.archive import load_transcripts, save_transcripts
from ..envs.files import write_whole
from ..envs.transcript import Transcript
from .drawings import Drawing
from .judges import SERVERS

FREE = frozenset({"out", "compare", "workers", "gpus", "address", "detector.url", "detector.device"} | SERVERS)
"""Settings that may differ when an evaluation goes on: they change no drawing and no verdict."""


class EvaluationFolder:
    """A folder with ``settings.json``, ``results.jsonl`` and ``transcripts/``."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.results, self._settings = self.path / "results.jsonl", self.path / "settings.json"

    @property
    def is_begun(self) -> bool:
        """Whether there is an evaluation, or a part of one."""
        return self._settings.is_file()

    def settings(self) -> dict[str, Any]:
        """The settings it was begun with.

        Raises:
            ValueError: There is no evaluation.
        """
        if not self.is_begun:
            raise ValueError(f"Expected a folder that strokes-evaluate wrote, got {str(self.path)!r}.")
        return json.loads(self._settings.read_text(encoding="utf-8"))

    def check(self, settings: Mapping[str, Any]) -> None:
        """``ValueError`` unless the folder is new, or was begun with these settings, those of ``FREE`` aside."""
        if not self._settings.exists():
            if self.results.exists():
                raise ValueError(f"Expected {str(self.path)!r} to be new, got results without settings.json.")
            return
        begun, wanted = (dict(leaves(each)) for each in (self.settings(), settings))
        for key in {**begun, **wanted}:
            if not is_free(key, FREE) and begun.get(key) != wanted.get(key):
                raise ValueError(
                    f"Expected {key}={begun.get(key)!r}, with which {str(self.path)!r} was begun, got "
                    f"{key}={wanted.get(key)!r}; take that, or another out=…."
                )

    def drawings(self) -> list[Drawing]:
        """All drawings of ``results.jsonl``, as they were last written; a torn last line is left out.

        Raises:
            ValueError: A line that is whole but wrong.
        """
        lines = self.results.read_bytes().split(b"\n")[:-1] if self.results.exists() else []
        drawings = (self._drawing(line, number) for number, line in enumerate(lines, 1))
        return list({(each.task, each.prompt_id, each.seed): each for each in drawings}.values())

    def finished(self, sizes: Sequence[int]) -> dict[int, list[Drawing]]:
        """Drawings of the finished chunks, by chunk; ``results.jsonl`` then holds nothing else.

        Args:
            sizes: Drawings of each chunk.
        """
        chunks: dict[int, list[Drawing]] = {}
        drawings = self.drawings()
        for drawing in drawings:
            chunks.setdefault(drawing.chunk, []).append(drawing)
        whole = {k: group for k, group in chunks.items() if k < len(sizes) and len(group) == sizes[k]}
        if self.results.exists():
            kept = [drawing for drawing in drawings if drawing.chunk in whole]
            write_whole(self.results, "".join(map(_line, kept)))
        return whole

    def add(
        self, chunk: int, drawings: Sequence[Drawing], transcripts: Sequence[Transcript], settings: Mapping[str, Any]
    ) -> None:
        """Write a chunk that was drawn; before the first one, the settings: nothing is begun before that."""
        save_transcripts(transcripts, self._transcripts(chunk))
        if not self._settings.exists():
            write_whole(self._settings, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        self.amend(drawings)

    def amend(self, drawings: Sequence[Drawing]) -> None:
        """Write drawings, for the first time or with what was found out since: the last line of each stands."""
        with open(self.results, "a", encoding="utf-8") as file:
            file.write("".join(map(_line, drawings)))
            file.flush()
            os.fsync(file.fileno())

    def transcripts(self, drawings: Sequence[Drawing]) -> list[Transcript]:
        """The transcripts of these drawings, in their order."""
        chunks = {drawing.chunk for drawing in drawings}
        found = {t.id: t for chunk in sorted(chunks) for t in load_transcripts(self._transcripts(chunk))}
        return [found[drawing.id] for drawing in drawings]

    def _transcripts(self, chunk: int) -> Path:
        return self.path / "transcripts" / f"chunk-{chunk:05d}.jsonl"

    def _drawing(self, line: bytes, number: int) -> Drawing:
        try:
            return Drawing.from_record(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"Expected {self.results}:{number} to be a drawing: {error}") from error


def _line(drawing: Drawing) -> str:
    return json.dumps(drawing.to_record(), ensure_ascii=False, allow_nan=False) + "\n"
