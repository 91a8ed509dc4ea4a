"""Transcript: what was said and drawn on one canvas; the one record everybody reads.

``record`` is the only place where an emission is judged legal or not: the environment, the rollout
and the painters all go through it. Files are the business of ``archive``.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.error import InvalidAction

from .markup import neutralise, parse_inspection, parse_plan
from .stages import Emission, Grammar, Stage, legal

if TYPE_CHECKING:
    from .protocols import Score

CRITIC = "critic"
"""Source of words that enter between two emissions from outside."""
GIVEN = "given"
"""Source of a canvas that was there before the first emission."""
OUTSIDE = frozenset({CRITIC, GIVEN})
"""Sources that do not move the grammar, cost no budget and are never trained on."""


class InvalidContent(InvalidAction, ValueError):
    """Content that no agent could mean: a wrong type, dtype or canvas size. A mistake of the caller."""


class Ending(StrEnum):
    """How an episode ended."""

    STOP = "stop"
    BUDGET = "budget"
    TRUNCATED = "truncated"
    ERROR = "error"


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One recorded emission. A tuple-like view ``(stage, content)`` is what the grammar reads."""

    stage: Stage
    content: str | np.ndarray
    """Text, or uint8 (size, size, 3)."""
    source: str = "policy"
    """Who emitted it: "policy", a name such as "human", or one of ``OUTSIDE``."""
    error: str = ""
    """Why the emission was illegal; "" where it was accepted."""
    loss: bool = True
    """Whether supervised training learns to emit it (failed sketches are context only)."""
    terms: Mapping[str, float | None] = field(default_factory=dict)
    """Named reward terms of this emission; the last emission also carries those of the outcome."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the file that this version does not know, kept as they are."""

    @property
    def outside(self) -> bool:
        """Whether it came from outside the process (a critic's words, a given canvas)."""
        return self.source in OUTSIDE

    def __iter__(self) -> Iterator[Any]:
        return iter((self.stage, self.content))

    def __getitem__(self, index: int) -> Any:
        return (self.stage, self.content)[index]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Entry)
            and all(getattr(self, name) == getattr(other, name) for name in ("stage", "source", "error", "loss"))
            and dict(self.terms) == dict(other.terms)
            and _plain(self.extra) == _plain(other.extra)
            and isinstance(self.content, str) == isinstance(other.content, str)
            and np.array_equal(self.content, other.content)
        )


@dataclass(slots=True, kw_only=True, eq=False)
class Transcript:
    """One episode: the environment's memory, what rewards judge, what training learns from.

    Example:
        >>> from strokes.envs import Emission, Stage, Transcript
        >>> transcript = Transcript(prompt="a red circle", size=48)
        >>> transcript.record(Emission(Stage.STOP, ""))
        'Expected PLAN after the prompt, got STOP.'
        >>> transcript.record(Emission(Stage.PLAN, "<ins>Draw a red circle.</ins><des>A red circle.</des>"))
        ''
        >>> sorted(stage.name for stage in transcript.legal())
        ['SKETCH']
    """

    prompt: str
    size: int
    """Side of the square canvas in pixels."""
    id: str = ""
    seed: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What rewards need to know of the task (for scenes: GenEval-style metadata)."""
    emissions: list[Entry] = field(default_factory=list)
    ended: Ending | None = None
    score: float | None = None
    """The outcome; ``None``: not judged."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the file that this version does not know, kept as they are."""

    @property
    def accepted(self) -> list[Entry]:
        """Accepted emissions of the process, in order (illegal ones and what came from outside left out)."""
        return [entry for entry in self.emissions if not entry.error and entry.source not in OUTSIDE]

    @property
    def canvas(self) -> np.ndarray | None:
        """The last accepted (or given) image, or ``None`` before the first."""
        for entry in reversed(self.emissions):
            if entry.stage.is_image and not entry.error:
                return entry.content  # type: ignore[return-value]
        return None

    @property
    def images(self) -> list[np.ndarray]:
        """All accepted images, in order; a given canvas is not among them."""
        return [entry.content for entry in self.accepted if entry.stage.is_image]  # type: ignore[misc]

    @property
    def spent(self) -> int:
        """Emissions that count against a budget: all but those from outside."""
        return sum(entry.source not in OUTSIDE for entry in self.emissions)

    @property
    def rounds(self) -> list[list[Entry]]:
        """All emissions grouped into rounds.

        A round begins with an accepted PLAN, unless that plan answers a ``<refine>``: then it is the
        corrected plan of the same round. What precedes the first plan belongs to the first round.
        """
        groups: list[list[Entry]] = [[]]
        planned, corrects = False, False
        for entry in self.emissions:
            moves = not entry.error and not entry.outside
            if moves and entry.stage is Stage.PLAN:
                if planned and not corrects:
                    groups.append([])
                planned = True
            groups[-1].append(entry)
            if moves:
                corrects = entry.stage is Stage.INSPECT and Stage.REFINE in legal([entry])
        return groups if groups[0] else []

    def legal(self, grammar: Grammar | None = None) -> frozenset[Stage]:
        """Stages that may come next; none once the episode has ended."""
        return frozenset() if self.ended else legal(self.accepted[-1:], grammar)

    def mask(self, grammar: Grammar | None = None) -> np.ndarray:
        """``legal`` as int8 (5,), one per ``Stage``."""
        allowed = self.legal(grammar)
        return np.array([stage in allowed for stage in Stage], np.int8)

    def record(
        self,
        emission: Emission | tuple[int, Any],
        *,
        grammar: Grammar | None = None,
        max_chars: int | None = None,
        error: str = "",
        source: str = "policy",
        loss: bool = True,
    ) -> str:
        """Append an emission, legal or not; an accepted STOP ends the transcript.

        Args:
            emission: Stage and content. Images are copied; the content of STOP is dropped.
            grammar: Options of the order of stages; the paper's order by default.
            max_chars: Longest legal text, in characters; ``None``: any length.
            error: A reason known to the caller alone, such as a text cut at the token limit.
            source: Who emits it.
            loss: Whether supervised training learns to emit it.

        Returns:
            Why the emission is illegal, in a sentence that says what was expected; "" if it is legal.

        Raises:
            InvalidContent: A content of the wrong type, or an image of the wrong size or dtype.
        """
        stage, content = self._checked(emission)
        error = error or self._order_error(stage, grammar) or _text_error(stage, content, max_chars)
        self.emissions.append(Entry(stage=stage, content=content, source=source, error=error, loss=loss and not error))
        if stage is Stage.STOP and not error:
            self.ended = Ending.STOP
        return error

    def give(self, canvas: np.ndarray) -> None:
        """Append a canvas that was there before the first emission."""
        content = checked_image(canvas, self.size)
        self.emissions.append(Entry(stage=Stage.SKETCH, content=content, source=GIVEN, loss=False))

    def interject(self, words: str, source: str = CRITIC) -> None:
        """Append words from outside: every tag and special token in them is made ordinary text."""
        self.emissions.append(Entry(stage=Stage.INSPECT, content=neutralise(words), source=source, loss=False))

    def grade(self, score: "Score") -> None:
        """Write a reward's verdict into the record: terms beside each emission, the total as ``score``.

        Terms of the outcome go to the last emission, where they win over a step's term of the same name. Where
        the reward says what emissions earn, that is the term "earned".
        """
        if len(score.steps) not in (0, len(self.emissions)):
            raise ValueError(f"Expected terms for {len(self.emissions)} emissions, got {len(score.steps)}.")
        for entry, terms in zip(self.emissions, score.steps, strict=False):
            entry.terms = dict(terms)
        for entry, pay in zip(self.emissions, score.pay, strict=False):
            entry.terms = {**entry.terms, "earned": pay}
        if self.emissions and score.terms:
            self.emissions[-1].terms = {**self.emissions[-1].terms, **score.terms}
        self.score = score.total

    def cut(self, k: int) -> "Transcript":
        """A new, open, unjudged transcript of the first ``k`` emissions; it has no id of its own yet."""
        if not 0 <= k <= len(self.emissions):
            raise ValueError(f"Expected k between 0 and {len(self.emissions)}, got {k}.")
        kept = [dataclasses.replace(entry) for entry in self.emissions[:k]]
        return dataclasses.replace(self, id="", emissions=kept, ended=None, score=None)

    def edit(
        self, k: int, content: str | np.ndarray, *, source: str = "human", grammar: Grammar | None = None
    ) -> "Transcript":
        """A new, open transcript in which emission ``k`` says ``content``; everything after it is cut.

        Raises:
            ValueError: The new content is not legal there.
        """
        if not 0 <= k < len(self.emissions):
            raise ValueError(f"Expected k between 0 and {len(self.emissions) - 1}, got {k}.")
        result, old = self.cut(k), self.emissions[k]
        if old.source == CRITIC:
            result.interject(str(content))
        elif old.source == GIVEN:
            result.give(content)  # type: ignore[arg-type]
        elif error := result.record(Emission(old.stage, content), grammar=grammar, source=source):
            raise ValueError(f"Emission {k} cannot be edited to that. {error}")
        return result

    def __eq__(self, other: object) -> bool:
        names = ("prompt", "size", "id", "seed", "ended", "score", "emissions")
        return (
            isinstance(other, Transcript)
            and all(getattr(self, name) == getattr(other, name) for name in names)
            and _plain(self.meta) == _plain(other.meta)
            and _plain(self.extra) == _plain(other.extra)
        )

    def _checked(self, emission: Any) -> tuple[Stage, str | np.ndarray]:
        """Stage and content with their types and shapes verified."""
        try:
            number, content = emission
            stage = Stage(int(number))
        except (TypeError, ValueError):
            raise InvalidContent(f"Expected (stage, content) with a stage of 0 to 4, got {emission!r:.80}.") from None
        if stage.is_image:
            return stage, checked_image(content, self.size, stage.name)
        if not isinstance(content, str):
            raise InvalidContent(f"Expected a str as the content of {stage.name}, got {type(content).__name__}.")
        return stage, "" if stage is Stage.STOP else content

    def _order_error(self, stage: Stage, grammar: Grammar | None) -> str:
        allowed = self.legal(grammar)
        if stage in allowed:
            return ""
        if self.ended:
            return f"Expected nothing more, the episode ended by {self.ended}; got {stage.name}."
        accepted = self.accepted
        last = accepted[-1].stage.name if accepted else "the prompt"
        if accepted and accepted[-1].stage is Stage.INSPECT:
            last += " with <refine>" if Stage.REFINE in allowed else " without <refine>"
        return f"Expected {' or '.join(s.name for s in sorted(allowed))} after {last}, got {stage.name}."


def checked_image(content: Any, size: int, name: str = "canvas") -> np.ndarray:
    """A copy of an image after verification: uint8 (size, size, 3), C order."""
    if not isinstance(content, np.ndarray):
        raise InvalidContent(f"Expected a NumPy array as the content of {name}, got {type(content).__name__}.")
    if content.dtype != np.uint8:
        remedy = "scale to 0..255, round and cast with .astype(np.uint8)"
        raise InvalidContent(f"Expected {name} of dtype uint8, got {content.dtype}; {remedy}.")
    if content.shape != (size, size, 3):
        remedy = "draw at the size the observation tells, or make the environment with another `size`"
        raise InvalidContent(f"Expected {name} of shape {(size, size, 3)}, got {content.shape}; {remedy}.")
    return np.array(content, order="C")


def _text_error(stage: Stage, content: str | np.ndarray, max_chars: int | None) -> str:
    if not isinstance(content, str) or stage is Stage.STOP:
        return ""
    if max_chars is not None and len(content) > max_chars:
        return f"Expected at most {max_chars} characters, got {len(content)}."
    try:
        parse_plan(content) if stage is Stage.PLAN else parse_inspection(content)
    except ValueError as error:
        return str(error)
    return ""


def _plain(value: Any) -> Any:
    """Mappings as dicts and sequences as lists, all the way down: what a JSON file gives back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
