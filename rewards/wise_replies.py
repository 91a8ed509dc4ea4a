"""What WISE's judges answer, read: as the official scripts read it, and strictly.

Rules of PKU-YuanGroup/WISE (commit eb51174), re-implemented from what its scripts do on recorded texts
(``tests/golden/wise``). The official readings are lenient: "Inconsistency: 1" is a mark for consistency, 7 is a mark,
"2.5" is a 2, and of two marks the last one counts (the first one in the verified protocol). They are kept, because
published numbers were made with them; the strict readings take nothing that is out of range, said twice or missing.
"""

import re
from collections.abc import Mapping, Sequence

CRITERIA = ("consistency", "realism", "aesthetic_quality")

_MARK = re.compile(r"(consistency|realism|aesthetic quality)\*{0,2}\s*:?\s*(\d)", re.IGNORECASE)
_SCORE = re.compile(r"score\*{0,2}\s*:?\s*([01])\b", re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_STRAY = re.compile(r"</think>\s*")
_LINE = re.compile(r"[\s*_#>-]*(consistency|realism|aesthetic quality|score)[\s*_]*[:\uff1a]\s*(.*)", re.IGNORECASE)


def parse_v1(text: str) -> dict[str, float]:
    """The marks in a reply, as the three-mark protocol reads it: some, all or none of the criteria."""
    marks = {name.lower().replace(" ", "_"): float(digit) for name, digit in _MARK.findall(text)}
    if marks:
        return marks
    bare = _bare(text, "012")
    return dict(zip(CRITERIA, map(float, bare), strict=False)) if len(bare) >= len(CRITERIA) else {}


def parse_verified(text: str) -> dict[str, float]:
    """The score in a reply, as the binary protocol reads it after ``without_thoughts``; empty where there is none."""
    if found := _SCORE.search(text):
        return {"score": float(found[1])}
    bare = _bare(text, "01")
    return {"score": float(bare[0])} if len(bare) == 1 else {}


def without_thoughts(text: str) -> str:
    """A reply without its thoughts; an unfinished one stays, as in the official scripts."""
    return _STRAY.sub("", _THOUGHT.sub("", text)).strip()


def read_v1(text: str) -> Mapping[str, float] | None:
    """Three marks, officially read; ``None`` where one is missing."""
    marks = parse_v1(text)
    return {name: marks[name] for name in CRITERIA} if all(name in marks for name in CRITERIA) else None


def read_verified(text: str) -> Mapping[str, float] | None:
    """One score, officially read."""
    return parse_verified(without_thoughts(text)) or None


def read_v1_strict(text: str) -> Mapping[str, float] | None:
    """Three marks on lines of their own, "Realism: 2", each 0, 1 or 2 and each there once."""
    return _strict(text, CRITERIA, "012")


def read_verified_strict(text: str) -> Mapping[str, float] | None:
    """One score on a line of its own, "Score: 1", 0 or 1 and there once."""
    return _strict(text, ("score",), "01")


def _bare(text: str, digits: str) -> list[str]:
    """Lines that are a digit and nothing else."""
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if len(line) == 1 and line in digits]


def _strict(text: str, names: Sequence[str], digits: str) -> dict[str, float] | None:
    text = without_thoughts(text)
    lines = [found for line in text.splitlines() if (found := _LINE.fullmatch(line))]
    said = [(found[1].lower().replace(" ", "_"), found[2].strip(" \t*_.")) for found in lines]
    marks = {name: value for name, value in said if name in names}
    fits = all(len(value) == 1 and value in digits for value in marks.values())
    if "<think>" in text or not fits or len(marks) != len(names) or sum(name in names for name, _ in said) > len(names):
        return None
    return {name: float(marks[name]) for name in names}
