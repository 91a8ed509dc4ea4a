"""The words of the controlled language and a cursor that reads them one by one."""

import re
from collections.abc import Sequence

from .graph import MAX_COUNT, RELATIONS, Node
from .layout import PLACES
from .render import COLORS, SHAPES

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BLOT = "blot"
"""Something on the canvas that is no shape of the world."""

_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\s\w]|_")
_PLACES = sorted(((tuple(place.split()), cell) for cell, place in enumerate(PLACES)), key=lambda pair: -len(pair[0]))
_RELATIONS = tuple(tuple(rel.split()) for rel in RELATIONS)


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return shape + ("es" if shape.endswith(("s", "x")) else "s")


_SINGULAR = {plural(shape): shape for shape in SHAPES}


def phrase(shape: str | None, color: str | None = None, count: int = 1, definite: bool = False) -> str:
    """ "a red circle", "the red circle", "two red circles", "a blot"."""
    name = BLOT if shape is None else shape if count == 1 else plural(shape)
    words = name if color is None else f"{color} {name}"
    if count > 1:
        return f"{NUMBERS[count - 1]} {words}"
    return f"{'the' if definite else 'an' if words[0] in 'aeiou' else 'a'} {words}"


def listed(items: Sequence[str], comma: bool = False) -> str:
    """ "x", "x and y", "x, y and z"; with ``comma`` also before "and"."""
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + (", and " if comma else " and ") + items[-1]


class Cursor:
    """Words of a text, read from left to right.

    Args:
        text: Any text; case is ignored, a final period dropped.
    """

    def __init__(self, text: str) -> None:
        self.words = _TOKEN.findall(text.lower())
        while self.words and self.words[-1] == ".":
            self.words.pop()
        self.at = 0

    @property
    def done(self) -> bool:
        """Whether everything was read."""
        return self.at >= len(self.words)

    @property
    def rest(self) -> str:
        """What is left, up to the next comma or semicolon: the phrase that an error names."""
        tail = self.words[self.at :]
        stop = next((k for k, word in enumerate(tail) if word in ",;" and k), len(tail))
        return " ".join(tail[:stop])

    def error(self, expected: str) -> ValueError:
        """The error that says what was expected here and what came."""
        return ValueError(f"Expected {expected}, got {self.rest!r}.")

    def take(self, words: str) -> bool:
        """Read ``words`` if they come next."""
        wanted = words.split()
        if self.words[self.at : self.at + len(wanted)] != wanted:
            return False
        self.at += len(wanted)
        return True

    def need(self, words: str) -> None:
        """Read ``words``; ``ValueError`` if something else comes."""
        if not self.take(words):
            raise self.error(repr(words))

    def end(self) -> None:
        """``ValueError`` unless everything was read."""
        if not self.done:
            raise self.error("the end of the text")

    def comma(self) -> bool:
        """Read what separates two items: a comma, "and", or both."""
        comma = self.take(",")
        return self.take("and") or comma

    def relation(self) -> str | None:
        """Read a relation if one comes next; "to the left of" and "on the left of" too."""
        start = self.at
        _ = self.take("to the") or self.take("on the")
        for words in _RELATIONS:
            if self.take(" ".join(words)):
                return " ".join(words)
        self.at = start
        return None

    def item(self) -> tuple[Node, bool]:
        """Read "a red circle": a node (id 0) and whether it was called "the"."""
        count, definite, start = self._count()
        color = next((color for color in COLORS if self.take(color)), None)
        word = self.words[self.at] if not self.done else ""
        shape = word if word in SHAPES else _SINGULAR.get(word)
        if shape is None:
            self.at = start
            raise self.error("an object such as 'a red circle'")
        if word in _SINGULAR and count is None:
            self.at = start
            raise self.error("a number before a plural")
        self.at += 1
        return Node(0, shape, color, count or 1), definite

    def _count(self) -> tuple[int | None, bool, int]:
        start = self.at
        if self.take("the"):
            return None, True, start
        if self.take("a") or self.take("an"):
            return 1, False, start
        word = self.words[self.at] if not self.done else ""
        count = (
            NUMBERS.index(word) + 1 if word in NUMBERS else int(word) if word.isdecimal() and word.isascii() else None
        )
        if count is not None and not 1 <= count <= MAX_COUNT:
            raise self.error(f"a number in [1, {MAX_COUNT}]")
        self.at += count is not None
        return count, False, start

    def cell(self) -> int:
        """Read a place such as "the top left"."""
        _ = self.take("the")
        for words, cell in _PLACES:
            if self.take(" ".join(words)):
                return cell
        raise self.error("a place such as 'the top left'")
