"""Examples as arrays: the words and pictures of a whole data set in a few numbers each, read from a file at once.

Tokenising and checking 60,000 trajectories takes minutes, and as Python objects they fill gigabytes. Here they are the
token ids of all texts, one after another, and a table of segments; an example is put together when it is asked for.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..envs.stages import Stage
from .collator import Example, Picture, Words

_STAGES = ("", *(stage.name.lower() for stage in Stage))
_WORDS, _PICTURE = 0, 1
_COLUMNS = 8
"""kind, stage, loss, switch + 1, then of words: length, -, -, -; of pictures: row, context, before + 1, -"""


class Examples(Sequence[Example]):
    """Examples at random access."""

    def __init__(self, ids: np.ndarray, segments: np.ndarray, starts: np.ndarray) -> None:
        """Args:

        ids: int32 (I,): the token ids of all texts.
        segments: int32 (S, 8): a row for each segment, see above.
        starts: int64 (N + 1,): first segment of each example.
        """
        self.ids, self.segments, self.starts = ids, segments, starts
        lengths = np.where(segments[:, 0] == _WORDS, segments[:, 4], 0)
        self._first = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    @classmethod
    def of(cls, examples: Iterable[Example]) -> "Examples":
        """Examples as arrays; they are taken one after another, and none is kept."""
        ids, rows, starts = array("i"), array("i"), array("q", [0])
        for example in examples:
            for segment in example:
                rows.extend(_row(segment))
                if isinstance(segment, Words):
                    ids.extend(segment.ids)
            starts.append(len(rows) // _COLUMNS)
        table = np.array(rows, np.int32).reshape(-1, _COLUMNS)
        return cls(np.array(ids, np.int32), table, np.array(starts, np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: Any) -> Any:
        """The example of an index; a list for a slice."""
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # negative ones, too
        first, last = int(self.starts[number]), int(self.starts[number + 1])
        return tuple(self._segment(k, row) for k, row in enumerate(self.segments[first:last].tolist(), first))

    def _segment(self, number: int, row: Sequence[int]) -> Words | Picture:
        kind, stage, loss, switch, *rest = row
        after = None if switch == 0 else switch - 1
        if kind == _WORDS:
            start = int(self._first[number])
            return Words(tuple(self.ids[start : start + rest[0]].tolist()), bool(loss), after, _STAGES[stage])
        before = None if rest[2] == 0 else rest[2] - 1
        return Picture(rest[0], bool(loss), bool(rest[1]), before, after, _STAGES[stage])

    def save(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a file; ``arrays`` are kept beside the examples."""
        every: dict[str, Any] = {"ids": self.ids, "segments": self.segments, "starts": self.starts, **arrays}
        with path.open("wb") as file:
            np.savez(file, **every)


def _row(segment: Words | Picture) -> list[int]:
    switch = 0 if segment.switch is None else segment.switch + 1
    head = [isinstance(segment, Picture), _STAGES.index(segment.stage), segment.loss, switch]
    if isinstance(segment, Words):
        return [*head, len(segment.ids), 0, 0, 0]
    return [*head, segment.row, segment.context, 0 if segment.before is None else segment.before + 1, 0]
