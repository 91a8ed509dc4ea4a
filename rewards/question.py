"""What judges are asked, and what comes back: records shared by whoever asks and whoever answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np

Status = Literal["ok", "refused", "filtered", "unparsable", "timeout", "transport", "budget"]
"""How a request ended: answered; declined by the model; withheld by the server's filter; answered in a form that
could not be read; too late; not reached, or refused by the server; not sent, because its cost was not granted."""
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A kind of question, the same for every picture.

    Either a guarded one, with ``choices``: the judge first writes down what text it sees in the images, then ``notes``,
    then its choice by a code that is new in every call, so that no picture can hold the answer. Or one of a published
    protocol, with ``read``: its reply is free text, taken as that protocol takes it.
    """

    name: str
    """What verdicts are filed under, such as "sketch"."""
    instructions: str
    """The system's message: what is to be judged, and how. Ours alone; nothing untrusted is ever put into it."""
    choices: tuple[str, ...] = ()
    """Answers of a guarded question, the best one first, such as ("yes", "no")."""
    notes: tuple[str, ...] = ()
    """Texts that the judge of a guarded question writes before it chooses, such as ("explanation", "correction")."""
    template: str | None = None
    """The user's message with ``{field}``s to be filled in; ``None``: the fields as one block of JSON."""
    read: Callable[[str], Mapping[str, Any] | None] | None = None
    """A reply to its data; ``None`` where it cannot be read. A function of a module: questions are pickled."""
    max_tokens: int = 512
    """Longest reply."""

    def __post_init__(self) -> None:
        if bool(self.choices) == bool(self.read):
            raise ValueError(f"Expected question {self.name!r} to have choices, or else a way to read replies.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One question about one thing."""

    question: Question
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What it is about: texts, or what JSON can hold. Untrusted."""
    images: tuple[np.ndarray, ...] = ()
    """uint8 (height, width, 3) each, in the order in which the instructions speak of them. Untrusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came back. Only ``ok`` ones have data; everything else is no verdict, never a bad one."""

    status: Status
    data: Mapping[str, Any] | None = None
    """Of a guarded question: "choice" (one of its choices), its notes, "visible_text", "is_guarded", whether the choice
    was overruled because the image speaks to the judge, and "said_choice", what it was before. Else what its ``read``
    gave."""
    raw: str | None = None
    """The reply as it came."""
    error: str = ""
    """Why there is no data."""
    prompt_tokens: int = 0
    """Summed over attempts, as the server counted them."""
    completion_tokens: int = 0
    cost: float | None = 0.0
    """In the currency of the price table; ``None``: the model has no price, or its server counts no tokens."""
    agreement: float = 1.0
    """Of the votes that could be read, the share that says the same as ``data``; the smaller one of two looks."""
    model: str = ""
    """Who answered, as the server named it; "" from the cache or a recording."""
    attempts: int = 0
    """Requests sent; 0 from the cache or a recording."""
    is_cached: bool = False
    seconds: float = 0.0
    """Wall time from the first attempt to the end."""


class Judge(Protocol):
    """Something that answers requests, many at a time."""

    def ask(self, requests: Sequence[Request]) -> list[Verdict]:
        """One verdict for each request, in order. A request that fails has a status, and is never raised.

        Raises:
            ValueError: A request that cannot be sent at all, such as one with an image that is none.
            OSError: There is no judge to be had for any request; of a ``JudgeClient``, ``JudgeUnavailable``.
        """
        ...
