"""Understanding: BAGEL asked yes or no about an image, an ``Answerer``.

The context is that of BAGEL's own understanding: what the image encoder sees, then the question. The answer is not
sampled: the probability of "yes" is its likelihood as the next turn over that of "yes" and "no" together, so that
there is a verdict even where the model would say something else. A model learns to answer on ``sample``: the same
context, with the right answer as the next turn.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..envs.markup import neutralise
from .adapter import check_fit, merge, read_adapter
from .bagel.checkpoint import load
from .bagel.context import ContextItem, Contexts
from .bagel.items import Text
from .bagel.model import Bagel
from .bagel.pictures import as_seen
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

    def context(self, image: np.ndarray, question: str) -> list[ContextItem]:
        """What is answered after: an image uint8 (height, width, 3) as the encoder sees it, and the question."""
        return [as_seen(self.model.config, image), Text(ids=self.tokenizer.encode(neutralise(question)))]

    def sample(self, image: np.ndarray, question: str, is_yes: bool) -> list[ContextItem]:
        """A question and its answer, which alone bears loss: of the words that ``answer`` compares."""
        return [*self.context(image, question), replace(self.answers[0 if is_yes else 1], loss=True)]

    def answer(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> list[float | None]:
        """Probability of yes for each image, uint8 (height, width, 3), and its question; in [0, 1].

        Special tokens in a question are ordinary text.

        Raises:
            ValueError: Not as many images as questions.
        """
        if len(images) != len(questions):
            raise ValueError(f"Expected a question for each image, got {len(images)} and {len(questions)}.")
        result: list[float | None] = []
        for first in range(0, len(images), self.batch):
            part = slice(first, first + self.batch)
            result += self._answer(images[part], questions[part])
        return result

    def num_read(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> list[int]:
        """Tokens that ``answer`` encodes for each pair: the image, the question, and both answers, with all markers."""
        answers = sum(len(answer.ids) + MARKERS for answer in self.answers)
        counts = []
        for image, question in zip(images, questions, strict=True):
            height, width = as_seen(self.model.config, image).pixels.shape[1:]
            patches = height * width // self.model.config.vit_config.patch_size**2
            words = len(self.tokenizer.encode(neutralise(question)))
            counts.append(patches + MARKERS + words + MARKERS + answers)
        return counts

    @torch.no_grad()
    def _answer(self, images: Sequence[np.ndarray], questions: Sequence[str]) -> list[float]:
        rows = self.contexts.open(len(images))
        try:
            self.contexts.extend(rows, list(map(self.context, images, questions)))
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
