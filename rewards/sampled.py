"""Answers that are sampled, as PARM samples them: the word by its probability, where others take the more probable one.

The released PARM (Z. Guo et al., arXiv 2501.13926; github.com/ZiyuGuo99/Image-Generation-CoT) draws every answer at
temperature 1, and the word alone decides what is clear and what has potential. A verifier whose probability of "yes"
stays below one half everywhere so calls nothing clear if it is taken by its more probable word, but some looks if it is
asked often enough. Two things are ours. A word follows from the seed, the question, the prompt and the image, so that
searches can be repeated and do not depend on their batches; images alike to the last pixel get the same word. And where
"yes" and "no" share all probability, as in the understanding of BAGEL, it is never a third word: that an answer is
neither of them can happen with remote judges alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..envs.protocols import Look, Opinion, Verifier, VerifierQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A verifier that says yes as often as another one finds it probable; probabilities are kept as they are."""

    verifier: Verifier
    """Says how probable yes and no are. An answer without probabilities is kept as it is."""
    seed: int
    """Decides the words."""

    def ask(self, question: VerifierQuestion, looks: Sequence[Look]) -> list[Opinion]:
        """One opinion for each look."""
        opinions = self.verifier.ask(question, looks)
        return [self._said(question, look, opinion) for look, opinion in zip(looks, opinions, strict=True)]

    def _said(self, question: VerifierQuestion, look: Look, opinion: Opinion) -> Opinion:
        if opinion.said is None or not opinion.p_yes or not opinion.p_no:
            return opinion  # nothing to choose between
        chance = opinion.p_yes / (opinion.p_yes + opinion.p_no)
        return replace(opinion, said=self._uniform(question, look) < chance)

    def _uniform(self, question: VerifierQuestion, look: Look) -> float:
        """A number in [0, 1) that belongs to this question about this image."""
        image = np.ascontiguousarray(look.image)
        told = repr((self.seed, question, look.prompt, image.shape)).encode()
        return int.from_bytes(hashlib.sha256(told + image.tobytes()).digest()[:6], "big") / 2**48
