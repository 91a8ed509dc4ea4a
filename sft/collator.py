"""Transcripts to training sequences: which segment is context, which bears which loss.

A transcript becomes an ``Example``: its words as token ids, its images as rows of a table that knows their pixels and,
where they are encoded once and for all, their latents. ``Collator`` turns examples into the items of
``agents.bagel.sequence`` each time they are drawn: noisy copies with stratified times, condition dropout, weights on
what changed. What bears loss is data (``Entry.loss``), never code: a failed sketch is context only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol, TypedDict

import numpy as np
import torch

from ..agents.bagel.sequence import Item, NoisyImage, Text, VaeImage, VitImage
from ..agents.bagel.tokenizer import TokenIds, Tokenizer
from ..envs.markup import neutralise
from ..envs.stages import Stage
from ..envs.transcript import Entry, Transcript


@dataclass(frozen=True, slots=True)
class Words:
    """A text of an example."""

    ids: tuple[int, ...]
    """Token ids without ``<|im_start|>`` and ``<|im_end|>``."""
    loss: bool
    switch: int | None = None
    """Label of the switch token after the text; ``None``: not learnt."""
    stage: str = field(default="", compare=False)
    """Of the process, in small letters; "" for prompts and where there is none. Losses are told apart by it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of an example."""

    row: int
    """Row of the image table."""
    loss: bool
    """Whether the flow learns to draw it (noisy copies)."""
    context: bool
    """Whether what follows sees it (clean latents and ViT tokens)."""
    before: int | None = None
    """Row of the image it replaces: tokens that differ weigh more."""
    switch: int | None = None
    """Label of the switch token after the image; ``None``: not learnt."""
    stage: str = field(default="", compare=False)
    """As in ``Words``."""


Example = tuple[Words | Picture, ...]


class Clean(TypedDict, total=False):
    """What a clean or noisy image is made of: one of both."""

    latent: torch.Tensor
    """float32 (tokens, channels)."""
    pixels: torch.Tensor
    """Float32 (3, H, W) in [-1, 1], to be encoded in the forward pass."""


class Images(Protocol):
    """The rows that pictures are."""

    def clean(self, row: int) -> Clean:
        """As the flow takes it."""
        ...

    def pixels(self, row: int) -> torch.Tensor:
        """Float32 (3, H, W) in [-1, 1], as the ViT takes it."""
        ...


class ImageTable:
    """Images of a data set: uint8 (N, size, size, 3), and latents float32 (N, tokens, channels) once encoded."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.latents = torch.zeros(0)

    def add(self, image: np.ndarray) -> int:
        """The row of a new image."""
        self.images.append(image)
        return len(self.images) - 1

    def clean(self, row: int) -> Clean:
        """See ``Images``."""
        return {"latent": self.latents[row]}

    def pixels(self, row: int) -> torch.Tensor:
        """Float32 (3, size, size) in [-1, 1], as the ViT takes it."""
        return torch.from_numpy(self.images[row]).permute(2, 0, 1).float() / 127.5 - 1


def from_transcript(transcript: Transcript, tokenizer: Tokenizer, table: ImageTable) -> Example:
    """An example of a whole trajectory; its images become rows of ``table``.

    Illegal emissions are skipped, what came from outside is context; an empty prompt leaves nothing. The switch after
    a segment is learnt if and only if what it leads to is. The last image is context only where something follows it.
    """
    entries = [entry for entry in transcript.emissions if not entry.error]
    followers = [*entries, None]
    prompt = tuple(tokenizer.encode(neutralise(transcript.prompt)))
    segments: list[Words | Picture] = [Words(prompt, False, _switch(followers[0], tokenizer.ids))] if prompt else []
    before: int | None = None
    for entry, follower in zip(entries, followers[1:], strict=True):
        if entry.stage is Stage.STOP:
            break
        switch, loss = _switch(follower, tokenizer.ids), entry.loss and not entry.outside
        stage = entry.stage.name.lower()
        if entry.stage.is_image:
            row = table.add(np.asarray(entry.content))
            segments.append(Picture(row, loss, follower is not None, before, switch, stage))
            before = row
        else:
            text = neutralise(str(entry.content)) if entry.outside else str(entry.content)
            segments.append(Words(tuple(tokenizer.encode(text)), loss, switch, stage))
    return tuple(segments)


def images_of(transcript: Transcript) -> list[np.ndarray]:
    """The images of a transcript's example, as ``from_transcript`` adds them to a table."""
    entries = takewhile(lambda entry: entry.error or entry.stage is not Stage.STOP, transcript.emissions)
    return [np.asarray(entry.content) for entry in entries if entry.stage.is_image and not entry.error]


def _switch(following: Entry | None, ids: TokenIds) -> int | None:
    """The token that leads to an entry: an image, the end or a text; ``None`` where that is not learnt."""
    if following is None or following.outside or not following.loss:
        return None
    if following.stage is Stage.STOP:
        return ids.eos_token_id
    return ids.start_of_image if following.stage.is_image else ids.bos_token_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Collator:
    """Examples to items, with everything that is drawn anew each time."""

    table: Images
    copies: int = 4
    """Noisy copies of each image with flow loss, mutually invisible, sharing one context."""
    drop_last_text: float = 0.10
    """Share of copies that do not see the text right before them (BAGEL drops texts at 0.1)."""
    drop_all: float = 0.02
    """Share of copies that see nothing (the empty context of guidance; measured)."""
    changed_weight: float = 2.0
    """Weight 1 + this · (how much a token differs from the image it replaces), as measured for edits; needs latents."""

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> list[list[Item]]:
        """One item list per example; times are stratified over all noisy copies of the batch."""
        num_noisy = self.copies * sum(isinstance(s, Picture) and s.loss for e in examples for s in e)
        quantiles = (rng.permutation(num_noisy) + rng.random(num_noisy)) / max(1, num_noisy)
        times = iter(torch.special.ndtri(torch.from_numpy(quantiles.clip(1e-4, 1 - 1e-4))).tolist())
        return [self._items(example, rng, times) for example in examples]

    def _items(self, example: Example, rng: np.random.Generator, times: Iterator[float]) -> list[Item]:
        items: list[Item] = []
        last_text = 0
        for segment in example:
            if isinstance(segment, Words):
                last_text = len(items)
                items.append(Text(ids=segment.ids, loss=segment.loss, switch=segment.switch))
                continue
            clean = self.table.clean(segment.row)
            if segment.loss:
                weight = self._weight(segment)
                # A first sketch without its plan would stand where drawing from the prompt at once stands, and
                # teach that to leave out what the plan leaves for later: such a copy sees nothing instead.
                without = 0 if last_text == 1 else last_text
                for u in rng.random(self.copies):
                    dropped = 0 if u < self.drop_all else without if u < self.drop_all + self.drop_last_text else None
                    items.append(NoisyImage(**clean, t=next(times), weight=weight, sees=dropped))
            if segment.context:
                items.append(VaeImage(**clean))
                items.append(VitImage(pixels=self.table.pixels(segment.row), switch=segment.switch))
        return items

    def _weight(self, segment: Picture) -> torch.Tensor | float:
        """Per-token weights; half a unit of mean squared latent difference counts as wholly changed."""
        if segment.before is None or self.changed_weight == 0:
            return 1.0
        now, before = (self.table.clean(row)["latent"] for row in (segment.row, segment.before))
        difference = (now - before).square().mean(-1)
        return 1 + self.changed_weight * (difference / 0.5).clamp(max=1)
