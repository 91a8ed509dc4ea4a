"""What BAGEL as a policy keeps of one canvas, and how its context follows the transcript."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from ..envs.markup import neutralise
from ..envs.stages import Stage
from ..envs.transcript import Entry, Transcript
from .bagel.context import ContextItem, Contexts
from .bagel.items import Text
from .bagel.pictures import Pictures
from .bagel.tokenizer import Tokenizer


def prompt_text(prompt: str, tokenizer: Tokenizer) -> Text:
    """A prompt as the first item of a context; special tokens in it are ordinary text."""
    return Text(ids=tokenizer.encode(neutralise(prompt)))


def heard(entry: Entry, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Ids of somebody else's text. Only well-formed texts may contain tags; special tokens are nobody's to say."""
    words = str(entry.content)
    return tuple(tokenizer.encode(neutralise(words) if entry.error or entry.outside else words))


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """An emission as the context knows it."""

    stage: Stage
    content: str | np.ndarray
    ids: tuple[int, ...] = ()
    """Ids of a text: as they were sampled, or made from the words of others."""
    latent: Tensor | None = None
    """Latent of an image, once it is known."""

    def is_in(self, entry: Entry) -> bool:
        """Whether the transcript's entry says the same."""
        if self.stage is not entry.stage or isinstance(self.content, str) != isinstance(entry.content, str):
            return False
        return self.content is entry.content or np.array_equal(self.content, entry.content)

    @property
    def num_items(self) -> int:
        """Items of the context: an image is two, its latent and what the encoder sees; STOP is none."""
        return 0 if self.stage is Stage.STOP else 1 if isinstance(self.content, str) else 2


@dataclass(slots=True, eq=False)
class BagelSession:
    """One canvas in the policy's hands."""

    transcript: Transcript
    size: int
    seed: tuple[int, ...]
    row: int
    """Its context."""
    texts: int | None = None
    """Its context of texts alone, where image guidance needs one."""
    said: list[Said] = field(default_factory=list)
    """Emissions in the context, in order."""
    own: Said | None = None
    """The policy's last emission until the transcript shows it; a text is then already in the context."""

    @property
    def rows(self) -> list[int]:
        """Its contexts."""
        return [self.row] if self.texts is None else [self.row, self.texts]

    @property
    def has_written(self) -> bool:
        """Whether ``own`` is a text."""
        return self.own is not None and isinstance(self.own.content, str) and self.own.num_items > 0

    def rng(self) -> np.random.Generator:
        """Randomness of the next emission: the seed and the place in the transcript decide it."""
        return np.random.default_rng(np.random.SeedSequence((*self.seed, len(self.transcript.emissions))))


class Reader:
    """Brings contexts up to date with transcripts."""

    def __init__(self, contexts: Contexts, pictures: Pictures, tokenizer: Tokenizer) -> None:
        self.contexts, self.pictures, self.tokenizer = contexts, pictures, tokenizer

    def read(self, sessions: Sequence[BagelSession]) -> list[int]:
        """Encode what the transcripts have and the contexts have not, in one forward.

        Emissions that were changed or taken back since are cut off the contexts first.

        Returns:
            The number of tokens encoded for each session.
        """
        news = self._with_latents([self._news(session) for session in sessions])
        rows: list[int] = []
        items: list[list[ContextItem]] = []
        for session, fresh in zip(sessions, news, strict=True):
            for row in session.rows:
                is_full = row == session.row
                # A text this policy wrote is in its own context already, but not in that of texts alone.
                unread = fresh[1:] if is_full and session.has_written else fresh
                rows.append(row)
                items.append([*self._prompt(session, row), *self._items(unread, only_texts=not is_full)])
            session.said += fresh
            session.own = None
        counts = dict(zip(rows, map(len, self.contexts.extend(rows, items)), strict=True))
        return [sum(counts[row] for row in session.rows) for session in sessions]

    def _news(self, session: BagelSession) -> list[Said]:
        """Cut the contexts to what still holds; return what is not in ``said`` yet.

        Afterwards ``own`` is the first of the news, or ``None`` if the transcript does not show it.
        """
        entries, said = session.transcript.emissions, session.said
        pairs = zip(said, entries, strict=False)
        known = next((k for k, (s, entry) in enumerate(pairs) if not s.is_in(entry)), min(len(said), len(entries)))
        fresh: list[Said] = []
        if session.own and known == len(said) < len(entries) and session.own.is_in(entries[known]):
            fresh.append(replace(session.own, content=entries[known].content))
        else:
            session.own = None
        fresh += [self._heard(entry) for entry in entries[known + len(fresh) :]]
        del said[known:]
        for row in session.rows:
            is_full = row == session.row
            kept = 1 + sum(s.num_items for s in said if is_full or isinstance(s.content, str))
            trail = self.contexts.trail(row)
            if (place := kept + (is_full and session.has_written)) < len(trail) - 1:
                self.contexts.cut(row, trail[place])
        return fresh

    def _heard(self, entry: Entry) -> Said:
        """Somebody else's emission."""
        ids = heard(entry, self.tokenizer) if isinstance(entry.content, str) else ()
        return Said(entry.stage, entry.content, ids)

    def _with_latents(self, news: Sequence[Sequence[Said]]) -> list[list[Said]]:
        """The same with the latents of all images, encoded together where they are not known."""
        images = [s for fresh in news for s in fresh if not isinstance(s.content, str) and s.latent is None]
        latents = self.pictures.encode([s.content for s in images if not isinstance(s.content, str)])
        found = {id(s): replace(s, latent=latent) for s, latent in zip(images, latents, strict=True)}
        return [[found.get(id(s), s) for s in fresh] for fresh in news]

    def _prompt(self, session: BagelSession, row: int) -> list[ContextItem]:
        """The prompt, if the context is still empty."""
        if len(self.contexts.trail(row)) > 1:
            return []
        return [prompt_text(session.transcript.prompt, self.tokenizer)]

    def _items(self, news: Iterable[Said], *, only_texts: bool) -> list[ContextItem]:
        items: list[ContextItem] = []
        for said in news:
            if said.num_items == 0:
                continue
            if isinstance(said.content, str):
                items.append(Text(ids=said.ids))
            elif not only_texts:
                assert said.latent is not None
                items += self.pictures.items(said.content, said.latent)
        return items
