"""The small protocols by which the rooms meet.

``envs`` imports nothing of ours, ``rewards`` and ``agents`` never import each other: objects cross
between them as arguments of these types.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from .stages import Emission, Stage
from .transcript import Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one reply cost; sums with ``+``."""

    steps: int = 0
    """Sampling steps (evaluations of the conditional velocity)."""
    nfe: int = 0
    """Network evaluations of the flow, guidance branches counted one by one."""
    decodes: int = 0
    """Latents decoded to pixels."""
    previews: int = 0
    """Of ``decodes``, those of unfinished images that a watcher looked at."""
    tokens: int = 0
    """Text tokens sampled."""
    encoded: int = 0
    """Tokens encoded into the context."""
    calls: int = 0
    """Calls of remote models, judges and planners alike; answers from a cache are none."""
    remote_tokens: int = 0
    """Tokens that remote models read and wrote, as their servers counted them."""
    questions: int = 0
    """Questions that a search put to its verifier about single images, whoever answers them."""
    seconds: float = 0.0
    """Wall time."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a reward says of one transcript."""

    total: float | None
    """The outcome, judged on the last accepted image; ``None``: no verdict (never 0)."""
    terms: Mapping[str, float | None] = field(default_factory=dict)
    """Named terms of the outcome."""
    steps: Sequence[Mapping[str, float | None]] = ()
    """``steps[k]``: the named terms of emission ``k``; as long as the transcript's emissions."""
    pay: Sequence[float | None] = ()
    """``pay[k]``: what emission ``k`` earns, decided once and for all when it is the last; ``None``: there is no
    verdict. Empty: the sum of its terms."""
    cost: Cost = field(default_factory=Cost)
    """What the verdict cost, where remote models gave it."""

    def earned(self, k: int) -> float:
        """What emission ``k`` earns; a missing verdict earns nothing."""
        given = self.pay[k : k + 1] if self.pay else self._terms(k)
        return sum(value for value in given if value is not None and not math.isnan(value))

    def is_missing(self, k: int) -> bool:
        """Whether a verdict on emission ``k`` is missing: what it earned is then not known, and is not to be learnt."""
        return _is_missing(self.pay[k]) if self.pay else any(map(_is_missing, self._terms(k)))

    def _terms(self, k: int) -> Iterable[float | None]:
        return self.steps[k].values() if self.steps else ()


def _is_missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


@runtime_checkable
class Reward(Protocol):
    """Transcripts to scores, batched. Plain attributes only: it is pickled and deep-copied.

    A reward may declare ``names``, a tuple of every term name it can give in ``Score.terms`` and
    ``Score.steps``: the environment then reports them all at every step, NaN where there is no verdict.
    A plain function has none and is a reward all the same.
    """

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript, in order. A failed verdict is ``None``, never raised."""
        ...


class Transition(NamedTuple):
    """One step of the flow path of an image, as replayed by reinforcement learning."""

    x: Any
    """State before the step, float32 (tokens, patch² · channels)."""
    x_next: Any
    """State after the step, same shape."""
    t: float
    """Time before the step, in [0, 1], 1 = noise."""
    t_next: float
    """Time after the step."""
    eta: float
    """Noise level of the step; 0 is the deterministic ODE."""
    logp: float = 0.0
    """Log-density of ``x_next`` when it was drawn, in nats, summed over all dimensions; 0 where nothing was drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A policy's answer: the emission the environment sees and what only the learner needs."""

    emission: Emission
    source: str = "policy"
    """Who is behind it; the driver writes it into the transcript's entry."""
    tokens: tuple[int, ...] = ()
    """Sampled token ids, the switch token first."""
    logps: tuple[float, ...] = ()
    """Log-probs of ``tokens`` under the masked, tempered sampling distribution."""
    allowed: tuple[tuple[int, ...] | None, ...] = ()
    """Ids each token could be sampled from; ``None``: the whole vocabulary."""
    temperature: float = 1.0
    """Sampling temperature of ``tokens``; 0 is greedy."""
    path: tuple[Transition, ...] = ()
    """The flow path of an image, when asked for."""
    latent: Any = None
    """Latent with which an image re-enters the context, float32 (tokens, patch² · channels)."""
    cost: Cost = field(default_factory=Cost)


class Session(Protocol):
    """One canvas in a policy's hands. The policy reads ``transcript``; the driver appends to it."""

    transcript: Transcript
    size: int


@runtime_checkable
class Policy(Protocol):
    """What turns observations into emissions, many canvases at a time."""

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> Session:
        """A session on an empty or re-opened transcript.

        Args:
            transcript: Shared record: what was said and drawn so far. The driver records each
                accepted or illegal emission in it before the next ``act``.
            size: Side of the square canvas in pixels.
            seed: Integers for ``numpy.random.SeedSequence``; nothing global is used.
        """
        ...

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session; ``masks[i]`` is int8 (5,), one per ``Stage``."""
        ...

    def close(self, sessions: Sequence[Session]) -> None:
        """Release what the sessions hold (contexts, files)."""
        ...


@runtime_checkable
class Watcher(Protocol):
    """Someone who looks at images while they are being drawn, and may end a drawing before it is finished."""

    def wants(self, session: Session, step: int) -> bool:
        """Whether to look at the session's image after its sampling step ``step``, from 1."""
        ...

    def look(self, drafts: Sequence[tuple[Session, np.ndarray]]) -> list[bool]:
        """Whether each of these images is drawn on.

        Args:
            drafts: What the images that were wanted are heading for, uint8 (size, size, 3), all after the same step.
                One that is drawn no further is the emission as it stands.
        """
        ...


@runtime_checkable
class Watchable(Policy, Protocol):
    """A policy that can be watched while it draws."""

    watcher: Watcher | None
    """``None``: nobody looks."""


class Look(NamedTuple):
    """An image that a verifier is asked about, finished or not."""

    prompt: str
    image: np.ndarray
    """uint8 (height, width, 3)."""
    meta: Mapping[str, Any] = {}
    """What is known of the task, for verifiers that know the world."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a verifier says of one image."""

    said: bool | None
    """The word it said: yes or no; ``None``: neither."""
    p_yes: float | None = None
    """Probability of "yes", in [0, 1]; ``None``: no answer could be had."""
    p_no: float | None = None
    """Probability of "no"; the two need not sum to 1."""
    words: str = ""
    """What would put it right, or else what is wrong, where that is told."""
    cost: Cost = field(default_factory=Cost)


VerifierQuestion = Literal["clarity", "potential", "outcome"]
"""Can this image be judged at all? May it still become what the prompt asks for? Is it what the prompt asks for?"""


class Verifier(Protocol):
    """Something that answers PARM's three questions about images, many at a time."""

    def ask(self, question: VerifierQuestion, looks: Sequence[Look]) -> list[Opinion]:
        """One opinion for each look, in order. An answer that could not be had says neither yes nor no.

        Raises:
            OSError: Nobody can be asked any more.
        """
        ...


class Answerer(Protocol):
    """Something that answers yes/no questions about images, many at a time."""

    def answer(
        self, images: Sequence[np.ndarray], questions: Sequence[str], prompts: Sequence[str] | None = None
    ) -> list[float | None]:
        """Probability of "yes" in [0, 1] for each image and its question; ``None`` where no answer could be had.

        Args:
            images: uint8 (height, width, 3) each.
            questions: One for each.
            prompts: What each was drawn for, read before it; ``None``: nobody says, or the questions do.
        """
        ...


@runtime_checkable
class MeteredAnswerer(Answerer, Protocol):
    """An ``Answerer`` that can tell what its answers take."""

    def num_read(
        self, images: Sequence[np.ndarray], questions: Sequence[str], prompts: Sequence[str] | None = None
    ) -> list[int]:
        """Tokens encoded for each answer, of the image and of all words."""
        ...


class Said(NamedTuple):
    """What a model said in a conversation."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 1
    """Requests that it took; 0 from a cache."""


class Chat(Protocol):
    """OpenAI-style conversations, many at a time."""

    def chat(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[Said | None]:
        """The assistant's next message of each; ``None`` where none could be had.

        Raises:
            OSError: The server is out of reach.
        """
        ...


__all__ = [
    "Answerer",
    "Chat",
    "Cost",
    "Emission",
    "Look",
    "MeteredAnswerer",
    "Opinion",
    "Policy",
    "Reply",
    "Reward",
    "Said",
    "Score",
    "Session",
    "Stage",
    "Transition",
    "Verifier",
    "VerifierQuestion",
    "Watchable",
    "Watcher",
]
