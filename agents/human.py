"""A person as a policy: takes any stage, or only some of them, at the console or through any two functions.

Words are typed; pictures come from a file, from a description in the mini-world's language, or stay as they
are. ``Relay`` lets two policies share one canvas: a person plans and a model draws, or the other way round.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..envs.filmstrip import ansi_image, strip_escapes
from ..envs.markup import Inspection, Plan, is_plan, parse_inspection, parse_plan
from ..envs.protocols import Policy, Reply, Session
from ..envs.stages import Emission, Stage
from ..envs.transcript import Transcript

_BRACKETS = str.maketrans("<>", "\u2039\u203a")
"""Angle brackets are structure; in a person's words they become look-alikes."""
MAX_PIXELS = 100_000_000
"""Most pixels of a file that is opened: a 10,000 x 10,000 photograph."""


@dataclass(slots=True)
class HumanSession:
    """One canvas in a person's hands."""

    transcript: Transcript
    size: int
    rng: np.random.Generator
    """Places what a described scene leaves open."""
    num_shown: int | None = None
    """Emissions that the person has already seen; ``None`` before the prompt was shown."""


class Human:
    """A person at the console.

    A stage is asked for only where several are legal. An answer that would be illegal is explained and asked
    again, so a person never errs against the grammar.

    Args:
        input_fn: Asks a question and returns the answer; ``EOFError`` passes through.
        output_fn: Shows a line.
        pictures: Whether canvases are shown as coloured half blocks (for terminals with true colour).
    """

    def __init__(
        self,
        input_fn: Callable[[str], str] = input,
        output_fn: Callable[[str], None] = print,
        pictures: bool = True,
    ) -> None:
        self.input_fn, self.output_fn, self.pictures = input_fn, output_fn, pictures

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> HumanSession:
        """A session on an empty or re-opened transcript."""
        return HumanSession(transcript, size, np.random.default_rng(np.random.SeedSequence(seed)))

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session, one question after the other."""
        return [self._reply(session, mask) for session, mask in zip(sessions, masks, strict=True)]

    def close(self, sessions: Sequence[Session]) -> None:
        """Nothing is held."""

    def choose(self, session: Session, mask: np.ndarray) -> Stage:
        """The stage a person wants to come next, among the legal ones."""
        legal = [stage for stage in Stage if mask[stage]]
        self._show(session)
        if len(legal) == 1:
            return legal[0]
        names = {stage.name.lower(): stage for stage in legal}
        while True:
            answer = self.input_fn(f"What comes next ({', '.join(names)})? ").strip().lower()
            matches = [name for name in names if answer and name.startswith(answer)]
            if len(matches) == 1:
                return names[matches[0]]
            self.output_fn(f"Expected one of {', '.join(names)}, got {answer!r}.")

    def _reply(self, session: Session, mask: np.ndarray) -> Reply:
        assert isinstance(session, HumanSession)
        stage = self.choose(session, mask)
        asks = {Stage.PLAN: self._plan, Stage.INSPECT: self._inspection, Stage.STOP: lambda _: ""}
        while True:
            try:
                content = asks[stage](session) if not stage.is_image else self._picture(session, stage)
                return Reply(emission=Emission(stage, content), source="human")
            except ValueError as error:
                self.output_fn(f"Not quite. {error}")

    def _plan(self, session: HumanSession) -> str:
        instruction = self.input_fn("PLAN, what to do next (or <ins>…</ins><des>…</des>): ").strip()
        if is_plan(instruction):
            return str(parse_plan(instruction))
        description = self.input_fn("PLAN, how the whole scene then looks: ").strip()
        return str(parse_plan(str(Plan(instruction.translate(_BRACKETS), description.translate(_BRACKETS)))))

    def _inspection(self, session: HumanSession) -> str:
        comment = self.input_fn("INSPECT, what agrees and what does not: ").strip()
        if "<refine>" in comment:
            return str(parse_inspection(comment))
        refine = self.input_fn("INSPECT, what to correct (empty: it stands): ").strip()
        inspection = Inspection(comment.translate(_BRACKETS), refine.translate(_BRACKETS) or None)
        return str(parse_inspection(str(inspection)))

    def _picture(self, session: HumanSession, stage: Stage) -> np.ndarray:
        answer = self.input_fn(f"{stage.name}, an image file, a scene in words, or 'keep': ").strip()
        if answer.lower() == "keep":
            canvas = session.transcript.canvas
            return np.full((session.size, session.size, 3), 255, np.uint8) if canvas is None else canvas.copy()
        if not answer:
            raise ValueError("Expected an image file, a scene in words, or 'keep', got nothing.")
        if len(answer) < 4096 and Path(answer).expanduser().is_file():
            return read_picture(Path(answer).expanduser(), session.size)
        return drawn(answer, session.size, session.rng)

    def _show(self, session: Session) -> None:
        """What was said and drawn since the person was last asked."""
        assert isinstance(session, HumanSession)
        transcript = session.transcript
        if session.num_shown is None:
            self.output_fn(f"PROMPT  {strip_escapes(transcript.prompt)}")
        for entry in transcript.emissions[session.num_shown or 0 :]:
            words = strip_escapes(entry.content) if isinstance(entry.content, str) else ""
            by = "" if entry.source == "policy" else f" by {strip_escapes(entry.source)}"
            self.output_fn(
                f"{entry.stage.name}{by}  {words}".rstrip()
                + (f"  [{strip_escapes(entry.error)}]" if entry.error else "")
            )
            if self.pictures and not isinstance(entry.content, str):
                self.output_fn(ansi_image(entry.content))
        session.num_shown = len(transcript.emissions)


class RelaySession:
    """One canvas in the hands of two policies, which read the same transcript."""

    __slots__ = ("base", "size", "taker", "transcript")

    def __init__(self, transcript: Transcript, size: int, base: Session, taker: Session) -> None:
        self.transcript, self.size, self.base, self.taker = transcript, size, base, taker


class Relay:
    """Two policies on one canvas: ``taker`` takes the given stages, ``base`` all others.

    Where stages of both are legal, ``choose`` decides which comes; without it, ``base`` goes on by itself, and
    STOP goes with the taker, who would have to emit the next stage otherwise.

    Example:
        >>> from strokes.agents.human import Human, Relay
        >>> from strokes.agents.scripted import ScriptedPainter
        >>> from strokes.envs import Stage
        >>> person = Human()
        >>> policy = Relay(ScriptedPainter(), person, {Stage.PLAN}, person.choose)

    Args:
        base: Takes what the taker does not.
        taker: A person, a planner behind an API, any policy.
        stages: What the taker takes.
        choose: From the taker's session and the mask to the stage that comes next.
    """

    def __init__(
        self,
        base: Policy,
        taker: Policy,
        stages: Collection[Stage],
        choose: Callable[[Session, np.ndarray], Stage] | None = None,
    ) -> None:
        self.base, self.taker, self.choose = base, taker, choose
        self.stages = frozenset(Stage(stage) for stage in stages)

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> RelaySession:
        """A session of each policy on one transcript."""
        base, taker = (policy.start(transcript, size, (*seed, k)) for k, policy in enumerate((self.base, self.taker)))
        return RelaySession(transcript, size, base, taker)

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session: the base's canvases together, then the taker's together."""
        shares = [self._share(session, mask) for session, mask in zip(sessions, masks, strict=True)]
        replies: dict[int, Reply] = {}
        for policy, takes in ((self.base, False), (self.taker, True)):
            chosen = [k for k, (is_taken, _) in enumerate(shares) if is_taken is takes]
            if chosen:
                inner = [_inner(sessions[k], takes) for k in chosen]
                replies |= zip(chosen, policy.act(inner, [shares[k][1] for k in chosen]), strict=True)
        return [replies[k] for k in range(len(sessions))]

    def close(self, sessions: Sequence[Session]) -> None:
        """Release both policies' sessions."""
        self.base.close([_inner(session, False) for session in sessions])
        self.taker.close([_inner(session, True) for session in sessions])

    def _share(self, session: Session, mask: np.ndarray) -> tuple[bool, np.ndarray]:
        """Whether the taker acts, and on which mask."""
        legal = {stage for stage in Stage if mask[stage]}
        mine = legal & self.stages
        if mine and self.choose and len(legal) > 1:
            stage = self.choose(_inner(session, True), mask)
            return stage in self.stages, _mask({stage})
        others = legal - self.stages
        if mine and not others - {Stage.STOP}:
            return True, _mask(legal)
        return False, _mask(others)


def read_picture(path: Path, size: int) -> np.ndarray:
    """A square picture from a file, resized to the canvas: uint8 (size, size, 3)."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width != height:
                raise ValueError(f"Expected a square picture, got {width} x {height}; crop {path} first.")
            if width * height > MAX_PIXELS:
                raise ValueError(f"Expected at most {MAX_PIXELS:,} pixels, got {width} x {height}.")
            return np.array(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"Expected a picture in {path}, got: {error}.") from error


def drawn(words: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """A scene of the mini-world from its description: uint8 (size, size, 3)."""
    from ..envs.scenes.language import parse
    from ..envs.scenes.layout import sample_layout
    from ..envs.scenes.render import render

    return render(sample_layout(parse(words), rng, size).scene)


def _inner(session: Session, takes: bool) -> Session:
    assert isinstance(session, RelaySession)
    return session.taker if takes else session.base


def _mask(stages: Collection[Stage]) -> np.ndarray:
    return np.array([stage in stages for stage in Stage], np.int8)
