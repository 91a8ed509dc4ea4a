"""BAGEL without the process, one picture after another: the first from words, the next as an edit of the one before.

Each image has a context of its own, as in BAGEL's own inferencer: for the first image the description that the plan
gives; for later ones the canvas (its latent and what the image encoder sees), then the instruction. Guidance leads
away from the context without its text, and from the text without the image. The other stages get fixed words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from ..envs.markup import parse_inspection, parse_plan
from ..envs.protocols import Cost, Reply, Session
from ..envs.stages import Emission, Stage
from ..envs.transcript import Transcript
from .bagel.context import ContextItem, Contexts
from .bagel.items import Text
from .bagel.model import Bagel
from .bagel.pictures import Pictures
from .bagel.sample import Branches, Sampling
from .bagel.tokenizer import Tokenizer
from .one_shot import INSTRUCTION, fixed_words, nearest_stage

EDITING = Sampling(cfg_img_scale=2.0, cfg_interval=(0.0, 1.0), cfg_renorm_type="text_channel")
"""BAGEL's recommendation for editing."""


@dataclass(slots=True, eq=False)
class EditorSession:
    """One canvas in the policy's hands."""

    transcript: Transcript
    size: int
    seed: tuple[int, ...]

    def rng(self) -> np.random.Generator:
        """Randomness of the next emission: the seed and the place in the transcript decide it."""
        return np.random.default_rng(np.random.SeedSequence((*self.seed, len(self.transcript.emissions))))


class Editor:
    """The policy. It draws what the last plan says, edits the canvas if there is one, and plans the prompt itself."""

    def __init__(
        self, model: Bagel, tokenizer: Tokenizer, sampling: Sampling | None = None, editing: Sampling | None = None
    ) -> None:
        """Args:

        model: Draws; its device and dtype are used.
        tokenizer: Its tokenizer.
        sampling: Of a first image; defaults to BAGEL's recommendation for text-to-image.
        editing: Of the images after it; defaults to BAGEL's recommendation for editing.
        """
        self.model, self.tokenizer = model, tokenizer
        self.first, self.later = Pictures(model, sampling or Sampling()), Pictures(model, editing or EDITING)
        self.contexts = Contexts(model, tokenizer.ids)

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> EditorSession:
        """A session on an empty or re-opened transcript."""
        self.first.check(size)
        return EditorSession(transcript, size, tuple(seed))

    def close(self, sessions: Sequence[Session]) -> None:
        """Nothing is held between images."""

    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session; first images are drawn together, and so are edits."""
        own, stages = [_own(session) for session in sessions], [nearest_stage(mask) for mask in masks]
        replies = [
            Reply(emission=Emission(stage, fixed_words(stage, session.transcript.prompt)))
            for session, stage in zip(own, stages, strict=True)
        ]
        images = [k for k, stage in enumerate(stages) if stage.is_image]
        for pictures, is_edit in ((self.first, False), (self.later, True)):
            places = [k for k in images if (own[k].transcript.canvas is not None) is is_edit]
            drawn = self._draw(pictures, [own[k] for k in places], [stages[k] for k in places])
            for k, reply in zip(places, drawn, strict=True):
                replies[k] = reply
        return replies

    def _draw(self, pictures: Pictures, sessions: Sequence[EditorSession], stages: Sequence[Stage]) -> list[Reply]:
        if not sessions:
            return []
        begun, contexts = perf_counter(), self.contexts
        full = contexts.open(len(sessions))
        texts = contexts.open(len(sessions)) if pictures.sampling.cfg_img_scale > 1 else []
        try:
            words = [Text(ids=self.tokenizer.encode(told(session.transcript))) for session in sessions]
            items = [[*seen, text] for seen, text in zip(self._seen(sessions), words, strict=True)]
            encoded = contexts.extend([*full, *texts], [*items, *([text] for text in words[: len(texts)])])
            views, bases = [contexts.view(row) for row in full], [contexts.base(row) for row in full]
            branches = Branches(views, bases, [contexts.view(row) for row in texts])
            rngs = [session.rng() for session in sessions]
            drawn = pictures.draw(contexts, branches, [session.size for session in sessions], rngs)
        finally:
            contexts.close([*full, *texts])
        seconds = (perf_counter() - begun) / len(sessions)
        read = [sum(map(len, encoded[k :: len(sessions)])) for k in range(len(sessions))]
        return [
            Reply(
                emission=Emission(stage, each.image),
                cost=Cost(steps=each.steps, nfe=each.nfe, decodes=1, encoded=count, seconds=seconds),
            )
            for stage, each, count in zip(stages, drawn, read, strict=True)
        ]

    def _seen(self, sessions: Sequence[EditorSession]) -> list[list[ContextItem]]:
        """The canvas of each, as it enters a context; nothing where there is none."""
        canvases = [(k, canvas) for k, s in enumerate(sessions) if (canvas := s.transcript.canvas) is not None]
        seen: list[list[ContextItem]] = [[] for _ in sessions]
        latents = self.later.encode([canvas for _, canvas in canvases])
        for (k, canvas), latent in zip(canvases, latents, strict=True):
            seen[k] = [*self.later.items(canvas, latent)]
        return seen


def told(transcript: Transcript) -> str:
    """What is to be drawn next: the description of a first image, else the instruction of the last words."""
    last = transcript.accepted[-1]
    if last.stage is Stage.INSPECT:
        words = parse_inspection(str(last.content)).refine
    else:
        plan = parse_plan(str(last.content))
        is_whole = transcript.canvas is None or plan.ins == INSTRUCTION
        words = plan.des if is_whole else plan.ins
    assert words is not None, last  # images follow a plan or an inspection that asks for one
    return words


def _own(session: Session) -> EditorSession:
    if not isinstance(session, EditorSession):
        raise ValueError(f"Expected a session of this policy's start(), got {session!r}.")
    return session
