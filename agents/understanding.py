"""Understanding: BAGEL asked yes or no about an image, an ``Answerer``.

It reads what it is asked about as it does when it inspects its own drawing: the prompt, if there is one, then the
image, as latents and as the image encoder sees it, then the question. (BAGEL's own way with images that are only
understood, no latents and all words after the image, is one in which the models of this package never learnt to read:
from there they learn to answer far more slowly, see docs/parm.md.) The answer is not sampled: the probability of "yes"
is its likelihood as the next turn over that of "yes" and "no" together, so that there is a verdict even where the model
would say something else. A model learns to answer on ``sample``: the same context, with the right answer as the next
turn.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..envs.markup import neutralise
from .adapter import check_fit, merge, read_adapter
from .bagel.checkpoint import load
from .bagel.context import ContextItem, Contexts
from .bagel.items import Text, VaeImage, VitImage
from .bagel.model import Bagel
from .bagel.pictures import as_encoded, as_seen, encode_all
from .bagel.tokenizer import Tokenizer

MARKERS = 2
"""Tokens around a text or an image."""


class Understanding:
    """Yes or no, by a model with an image encoder."""

    def __init__(
        self, model: Bagel, tokenizer: Tokenizer, *, words: tuple[str, str] = ("yes", "no"), batch: int = 16
    ) -> None:
        """Args:

        model: Answers; its device and dtype are used.
        tokenizer: Its tokenizer.
        words: How the model says yes and no. Of several tokens all count.
        batch: Questions encoded together; 16 as canvases are drawn (``agents.rollout``).
        """
        if len(set(words)) != 2 or not all(words):
            raise ValueError(f"Expected two different words, got {words!r}.")
        self.model, self.tokenizer, self.batch = model, tokenizer, batch
        self.answers = [Text(ids=tokenizer.encode(word)) for word in words]
        self.taught = [replace(answer, loss=True) for answer in self.answers]  # as turns that bear loss
        self.contexts = Contexts(model, tokenizer.ids)

    @classmethod
    def load(
        cls,
        path: str | Path,
        adapter: str | Path | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> Self:
        """The model of a checkpoint directory.

        Args:
            path: The directory.
            adapter: Folder of an adapter that was trained on it, such as a verifier's; merged into the weights.
            dtype: Of the weights.
            device: Where they lie.

        Raises:
            ValueError: Either of them is missing or damaged, or the adapter is of another model.
        """
        learnt = None if adapter is None else read_adapter(adapter)
        model = load(path, dtype=dtype, device=device)
        if learnt is not None:
            check_fit(model, learnt)
            merge(model, learnt)
        return cls(model, Tokenizer.load(path))

    @torch.no_grad()
    def encode(self, images: Sequence[np.ndarray]) -> list[VaeImage]:
        """Latents of images uint8 (height, width, 3), on the CPU."""
        pixels, stride = [as_encoded(self.model.config, image) for image in images], self.model.config.latent_stride
        return [
            VaeImage(latent=latent, grid=(given.shape[-2] // stride, given.shape[-1] // stride))
            for latent, given in zip(encode_all(self.model, pixels), pixels, strict=True)
        ]

    def context(
        self, image: np.ndarray, question: str, prompt: str | None = None, latent: VaeImage | None = None
    ) -> list[ContextItem]:
        """What is answered after: the prompt, the image as a canvas enters a context, the question.

        Args:
            image: uint8 (height, width, 3).
            question: In words.
            prompt: ``None``: there is none.
            latent: Of the image, where it is known already.
        """
        if latent is None:
            (latent,) = self.encode([image])
        return self.laid_out(latent, as_seen(self.model.config, image), question, prompt)

    def laid_out(self, latent: VaeImage, seen: VitImage, question: str, prompt: str | None = None) -> list[ContextItem]:
        """As ``context``, of an image that is already encoded and resized, be it with gradient."""
        before = [] if prompt is None else [self._text(prompt)]
        return [*before, latent, seen, self._text(question)]

    def sample(
        self, image: np.ndarray, question: str, is_yes: bool, prompt: str | None = None, latent: VaeImage | None = None
    ) -> list[ContextItem]:
        """A question and its answer, which alone bears loss: of the words that ``answer`` compares."""
        return [*self.context(image, question, prompt, latent), self.taught[0 if is_yes else 1]]

    def _text(self, words: str) -> Text:
        return Text(ids=self.tokenizer.encode(neutralise(words)))

    def answer(
        self, images: Sequence[np.ndarray], questions: Sequence[str], prompts: Sequence[str] | None = None
    ) -> list[float | None]:
        """Probability of yes for each image, uint8 (height, width, 3), and its question; in [0, 1].

        Special tokens in words are ordinary text. Prompts are what images were drawn for, one each; ``None``: nobody
        says.

        Raises:
            ValueError: Not as many images as questions, or as prompts.
        """
        given = _each(images, questions, prompts)
        result: list[float | None] = []
        for first in range(0, len(images), self.batch):
            part = slice(first, first + self.batch)
            result += self._answer(images[part], questions[part], given[part])
        return result

    def num_read(
        self, images: Sequence[np.ndarray], questions: Sequence[str], prompts: Sequence[str] | None = None
    ) -> list[int]:
        """Tokens that ``answer`` encodes for each: prompt, image, question, and both answers, with all markers."""
        answers = sum(len(answer.ids) + MARKERS for answer in self.answers)
        counts = []
        for image, question, prompt in zip(images, questions, _each(images, questions, prompts), strict=True):
            config = self.model.config
            seen, encoded = as_seen(config, image).pixels[0].numel(), as_encoded(config, image)[0].numel()
            patches = seen // config.vit_config.patch_size**2 + encoded // config.latent_stride**2
            words = [len(self._text(each).ids) + MARKERS for each in (prompt, question) if each is not None]
            counts.append(sum(words) + patches + 2 * MARKERS + answers)
        return counts

    @torch.no_grad()
    def _answer(
        self, images: Sequence[np.ndarray], questions: Sequence[str], prompts: Sequence[str | None]
    ) -> list[float]:
        rows = self.contexts.open(len(images))
        try:
            self.contexts.extend(rows, list(map(self.context, images, questions, prompts, self.encode(images))))
            marks = [self.contexts.mark(row) for row in rows]
            likelihoods = []
            for answer in self.answers:
                hidden = self.contexts.extend(rows, [[answer]] * len(rows))
                likelihoods.append(torch.stack([self._log_likelihood(states, answer) for states in hidden]))
                for row, mark in zip(rows, marks, strict=True):
                    self.contexts.cut(row, mark)
        finally:
            self.contexts.close(rows)
        return torch.stack(likelihoods).softmax(0)[0].tolist()

    def _log_likelihood(self, hidden: Tensor, answer: Text) -> Tensor:
        """Of a turn, after its opening marker, in nats; ``hidden`` (tokens of the turn, D)."""
        said = torch.tensor([*answer.ids, self.tokenizer.ids.eos_token_id], device=hidden.device)
        logps = self.model.logits(hidden[:-1]).float().log_softmax(-1)
        return logps.gather(1, said[:, None]).sum()


def _each(images: Sequence[Any], questions: Sequence[str], prompts: Sequence[str] | None) -> Sequence[str | None]:
    """The prompt of each image; ``ValueError`` unless there are as many of all."""
    if len(images) != len(questions):
        raise ValueError(f"Expected a question for each image, got {len(images)} and {len(questions)}.")
    if prompts is None:
        return [None] * len(images)
    if len(images) != len(prompts):
        raise ValueError(f"Expected a prompt for each image, or none, got {len(images)} and {len(prompts)}.")
    return prompts
