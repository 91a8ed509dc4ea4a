"""What a terminal shows while something is drawn: every emission as it comes, with its verdict.

On a terminal ``rich`` shows a spinner and thumbnails; elsewhere, or without ``rich``, plain lines. Escape
sequences and control characters in what a model wrote never reach the terminal.
"""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TextIO

from ..envs.filmstrip import ansi_image, strip_escapes
from ..envs.transcript import Entry, Transcript

WIDTH = 100
"""Where words are wrapped on a terminal, in characters."""


class Lines:
    """One plain line per emission."""

    def __init__(self, stream: TextIO, num_samples: int = 1) -> None:
        self.stream, self.num_samples = stream, num_samples

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Around a computation; a terminal shows a spinner."""
        yield

    def say(self, text: str) -> None:
        """A line of ours."""
        print(text, file=self.stream, flush=True)

    def emission(self, member: int, entry: Entry) -> None:
        """An emission, after it was judged."""
        words = " ".join(strip_escapes(entry.content).split()) if isinstance(entry.content, str) else "an image"
        self.say(f"{self.prefix(member)}{entry.stage.name.lower()}: {words}{remark(entry)}".rstrip())

    def ended(self, member: int, transcript: Transcript) -> None:
        """The end of a drawing."""
        self.say(f"{self.prefix(member)}ended by {transcript.ended}: {verdict(transcript)}")

    def prefix(self, member: int) -> str:
        """Which of several drawings a line is about."""
        return f"[{member + 1}/{self.num_samples}] " if self.num_samples > 1 else ""


class Terminal(Lines):
    """Emissions with thumbnails, and a spinner while the next one is computed."""

    def __init__(self, stream: TextIO, num_samples: int = 1) -> None:
        from rich.console import Console

        super().__init__(stream, num_samples)
        self.console = Console(file=stream, highlight=False, markup=False, emoji=False)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        with self.console.status(what):
            yield

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def emission(self, member: int, entry: Entry) -> None:
        from rich.text import Text

        self.console.print(Text(f"{self.prefix(member)}{entry.stage.name.lower()}{remark(entry)}", style="bold"))
        if not isinstance(entry.content, str):
            self.console.print(Text.from_ansi(ansi_image(entry.content, min(32, self.console.width // 2 * 2))))
        elif entry.content:
            words = textwrap.fill(strip_escapes(entry.content), min(WIDTH, self.console.width) - 2)
            self.console.print(Text(textwrap.indent(words, "  ")))


def make_view(stream: TextIO, num_samples: int = 1, *, is_plain: bool = False) -> Lines:
    """The view that fits ``stream``; characters that its encoding lacks become question marks.

    Args:
        stream: Where it shows.
        num_samples: Drawings that are shown together.
        is_plain: Lines even on a terminal.
    """
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
    if stream.isatty() and not is_plain:
        try:
            return Terminal(stream, num_samples)
        except ImportError:
            pass
    return Lines(stream, num_samples)


def remark(entry: Entry) -> str:
    """What there is to say about an emission: why it was illegal, or how well the stage was done."""
    if entry.error:
        return f"  (illegal: {strip_escapes(entry.error)})"
    value = entry.terms.get(entry.stage.name.lower())
    return "" if value is None else f"  ({value:.2f})"


def verdict(transcript: Transcript) -> str:
    """The outcome in words."""
    return "not judged" if transcript.score is None else f"score {transcript.score:.2f}"
