"""BAGEL as a policy: it plans, sketches, inspects and refines, deciding itself what comes next and when to stop.

Each canvas has one growing key/value context: the prompt, then every text and image of the transcript, an image
as the latent of its uint8 pixels and as what the image encoder sees. Nothing in the context is encoded twice: what
the policy wrote is already there; what others said, drew or changed is encoded when the policy is next asked.

What comes next is a token predicted at the last token of the context: ``<|vision_start|>`` is an image,
``<|im_start|>`` a text, ``<|im_end|>`` the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import torch

from ..envs.markup import is_plan
from ..envs.protocols import Cost, Reply, Session, Watcher
from ..envs.stages import Emission, Stage
from ..envs.transcript import Transcript
from .bagel.checkpoint import load
from .bagel.context import Contexts
from .bagel.generate import Allowed, Constraint, choose, decode_text
from .bagel.model import Bagel
from .bagel.pictures import Pictures, Watching
from .bagel.prefix import Prefixes
from .bagel.sample import Branches, Sampling
from .bagel.tokenizer import Tokenizer
from .interleaved_session import BagelSession, Reader, Said

CUT = "<|cut|>"
"""Ends a text that the token limit cut. No well-formed text contains it: whoever judges a cut text finds it illegal."""
TINY = Sampling(num_timesteps=13, timestep_shift=1.0, cfg_text_scale=3.0, cfg_interval=(0.0, 1.0), cfg_renorm_min=1.0)
"""For the mini-world: 12 steps, guidance 3 without renormalisation, no shift; measured on a model of 2.7 M parameters
(4/8/12/24 steps .62/.72/.77/.76 of the prompts, guidance 1/2/3/5 .46/.58/.60/.56; the shift hardly matters)."""


class Interleaved:
    """The policy."""

    def __init__(
        self,
        model: Bagel,
        tokenizer: Tokenizer,
        sampling: Sampling | None = None,
        *,
        temperature: float = 0.0,
        max_tokens: int = 384,
        is_recorded: bool = False,
    ) -> None:
        """Args:

        model: Drives everything; its device and dtype are used.
        tokenizer: Its tokenizer.
        sampling: Of images; defaults to BAGEL's recommendation for text-to-image.
        temperature: Of texts and switches; 0 is greedy, as in BAGEL's inferencer. Learning samples at 1.
        max_tokens: Most tokens of a text, ``<|im_end|>`` included; 384 is the largest number per stage in
            published recipes of interleaved learning.
        is_recorded: Whether replies carry flow paths and the latents with which images re-enter.
        """
        self.model, self.tokenizer = model, tokenizer
        self.temperature, self.max_tokens, self.is_recorded = temperature, max_tokens, is_recorded
        self.watcher: Watcher | None = None
        self.pictures = Pictures(model, sampling or Sampling())
        self.contexts = Contexts(model, tokenizer.ids)
        self.reader = Reader(self.contexts, self.pictures, tokenizer)
        self._prefixes = Prefixes(tokenizer, model.config.llm_config.vocab_size)
        self._switches: dict[frozenset[int], Allowed] = {}

    @classmethod
    def load(
        cls,
        path: str | Path,
        sampling: Sampling | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Self:
        """The policy of a checkpoint directory; ``options`` are those of ``__init__``."""
        return cls(load(path, dtype=dtype, device=device), Tokenizer.load(path), sampling, **options)

    def start(self, transcript: Transcript, size: int, seed: Sequence[int]) -> BagelSession:
        """A session on an empty or re-opened transcript; nothing is encoded yet."""
        self.pictures.check(size)
        (row,) = self.contexts.open(1)
        texts = self.contexts.open(1)[0] if self.pictures.sampling.cfg_img_scale > 1 else None
        return BagelSession(transcript, size, tuple(seed), row, texts)

    def close(self, sessions: Sequence[Session]) -> None:
        """Give the contexts back."""
        for session in map(_own, sessions):
            self.contexts.close(session.rows)

    @torch.no_grad()
    def act(self, sessions: Sequence[Session], masks: Sequence[np.ndarray]) -> list[Reply]:
        """One reply per session: news are encoded together, texts decoded together, images drawn together."""
        if not sessions:
            return []
        begun, own = perf_counter(), [_own(session) for session in sessions]
        encoded = self.reader.read(own)
        turns = self._switch(own, [[stage for stage in Stage if mask[stage]] for mask in masks])
        ids = self.tokenizer.ids
        self._write([turn for turn in turns if turn.tokens[0] == ids.bos_token_id])
        self._draw([turn for turn in turns if turn.tokens[0] == ids.start_of_image])
        seconds = (perf_counter() - begun) / len(own)
        for turn, count in zip(turns, encoded, strict=True):
            turn.cost += Cost(encoded=count, seconds=seconds, tokens=len(turn.tokens))
        return [turn.reply(self.temperature) for turn in turns]

    def _switch(self, sessions: Sequence[BagelSession], legal: Sequence[list[Stage]]) -> list["_Turn"]:
        """Choose between a text, an image and the end, among those that lead to a legal stage."""
        rngs = [session.rng() for session in sessions]
        allowed = [self._switches_to(stages) for stages in legal]
        tokens, logps = choose(
            self.contexts.logits([session.row for session in sessions]),
            np.array([rng.random() for rng in rngs]),
            self.temperature,
            allowed,
        )
        return [
            _Turn(session, rng, stages, [token], [logp], [among.ids])
            for session, rng, stages, token, logp, among in zip(
                sessions, rngs, legal, tokens.tolist(), logps.tolist(), allowed, strict=True
            )
        ]

    def _switches_to(self, stages: Sequence[Stage]) -> Allowed:
        ids = self.tokenizer.ids
        among = frozenset(
            ids.eos_token_id if stage is Stage.STOP else ids.start_of_image if stage.is_image else ids.bos_token_id
            for stage in stages
        )
        if not among:
            raise ValueError("Expected a mask with at least one legal stage, got none; the episode is over.")
        if among not in self._switches:
            self._switches[among] = Allowed(sorted(among))
        return self._switches[among]

    def _write(self, turns: Sequence["_Turn"]) -> None:
        """Decode the texts of these turns."""
        if not turns:
            return
        turns = sorted(turns, key=lambda turn: turn.session.row)  # consecutive rows need no copy of the cache
        decoded = decode_text(
            self.contexts,
            [turn.session.row for turn in turns],
            np.stack([turn.rng.random(self.max_tokens) for turn in turns]),
            temperature=self.temperature,
            constraints=[self._beginning(turn.stages) for turn in turns],
        )
        for turn, text in zip(turns, decoded, strict=True):
            content = self.tokenizer.decode(text.ids) + (CUT if text.is_cut else "")
            turn.emission = Emission(Stage.PLAN if is_plan(content) else Stage.INSPECT, content)
            turn.tokens += text.tokens
            turn.logps += text.logps
            turn.allowed += text.allowed
            turn.cost += Cost(encoded=len(text.ids) + 2)
            turn.session.own = Said(turn.emission.stage, content, ids=text.ids)

    def _beginning(self, stages: Sequence[Stage]) -> Constraint | None:
        """How a text may begin, so that it is of a legal stage."""
        plan, inspect = Stage.PLAN in stages, Stage.INSPECT in stages
        return None if plan and inspect else self._prefixes.plan if plan else self._prefixes.other

    def _draw(self, turns: Sequence["_Turn"]) -> None:
        """Draw the images of these turns."""
        if not turns:
            return
        turns, contexts = sorted(turns, key=lambda turn: turn.session.row), self.contexts
        sessions = [turn.session for turn in turns]
        branches = Branches(
            [contexts.view(session.row) for session in sessions],
            [contexts.base(session.row) for session in sessions],
            [contexts.view(session.texts) for session in sessions if session.texts is not None],
        )
        sizes, rngs = [session.size for session in sessions], [turn.rng for turn in turns]
        seeds = [session.seed for session in sessions]
        watching = None if self.watcher is None else Watching(self.watcher, sessions)
        drawn = self.pictures.draw(
            contexts, branches, sizes, rngs, seeds, is_recorded=self.is_recorded, watching=watching
        )
        latents = self.pictures.encode([each.image for each in drawn]) if self.is_recorded else [None] * len(drawn)
        for turn, each, latent in zip(turns, drawn, latents, strict=True):
            stage = next(stage for stage in turn.stages if stage.is_image)
            turn.emission, turn.path, turn.latent = Emission(stage, each.image), each.path, latent
            turn.cost += Cost(steps=each.steps, nfe=each.nfe, decodes=each.decodes, previews=each.previews)
            turn.session.own = Said(stage, each.image, latent=latent)


@dataclass(slots=True, eq=False)
class _Turn:
    """One emission in the making."""

    session: BagelSession
    rng: np.random.Generator
    stages: list[Stage]
    tokens: list[int]
    logps: list[float]
    allowed: list[tuple[int, ...] | None]
    emission: Emission = field(default_factory=lambda: Emission(Stage.STOP, ""))
    path: tuple[Any, ...] = ()
    latent: Any = None
    cost: Cost = field(default_factory=Cost)

    def reply(self, temperature: float) -> Reply:
        """The finished emission."""
        return Reply(
            emission=self.emission,
            tokens=tuple(self.tokens),
            logps=tuple(self.logps),
            allowed=tuple(self.allowed),
            temperature=temperature,
            path=self.path,
            latent=self.latent,
            cost=self.cost,
        )


def _own(session: Session) -> BagelSession:
    if not isinstance(session, BagelSession):
        raise ValueError(f"Expected a session of this policy's start(), got {session!r}.")
    return session
