"""Parts of the real back end for tests: who paints, who writes and judges, and the maker of them all."""

import json
from collections import Counter

import numpy as np
from story_truth import SHOWS
from truthful import said

from strokes.envs.protocols import Said
from strokes.envs.scenes import COLORS, SHAPES, render, sample_layout
from strokes.envs.scenes.graph import RELATIONS
from strokes.envs.scenes.language import parse
from strokes.rewards.question import Verdict
from strokes.sft.kontext import KontextMultiTurn
from strokes.sft.real_graphs import Vocabulary
from strokes.sft.storyteller import Storyteller

WORLD = Vocabulary(objects=tuple(SHAPES), attributes=tuple(COLORS), relations=RELATIONS)
"""The mini-world's things, of which everything can be checked: its own reader takes their words apart."""
SIZE = 64


class Renderer:
    """An editor that draws exactly what it is told the picture shows; what does not fit stays blank."""

    steps = 0

    def check(self, size):
        assert size == SIZE

    def paint(self, prompts, seeds, size):
        return [self.draw(words, seed) for words, seed in zip(prompts, seeds, strict=True)]

    def edit(self, images, instructions, seeds):
        assert all(image.shape == (SIZE, SIZE, 3) for image in images)
        return [self.draw(words.partition(SHOWS)[2], seed) for words, seed in zip(instructions, seeds, strict=True)]

    def draw(self, words, seed):
        try:
            return render(sample_layout(parse(words), np.random.default_rng(seed), SIZE).scene)
        except ValueError:
            return np.full((SIZE, SIZE, 3), 255, np.uint8)


class Blank:
    """An editor whose pictures are all white."""

    steps = 0

    def check(self, size):
        pass

    def paint(self, prompts, seeds, size):
        return [np.full((size, size, 3), 255, np.uint8) for _ in prompts]

    def edit(self, images, instructions, seeds):
        return list(images)


class Oracle:
    """A chat and a judge that know the mini-world, or say what they are given for a question."""

    def __init__(self, **instead):
        self.instead, self.asked = instead, Counter()

    def chat(self, conversations):
        return [self._said(talk) for talk in conversations]

    def ask(self, requests):
        self.asked.update(request.question.name for request in requests)
        return [self.instead.get(r.question.name) or Verdict(status="ok", data={"choice": "yes"}) for r in requests]

    def _said(self, talk):
        name = json.loads(talk[0]["content"].split("```json\n")[1].split("\n```")[0])["question"]
        self.asked[name] += 1
        text = self.instead.get(name, "") or said({"messages": talk[:1]}, lambda _: "")
        return None if text == "nothing" else Said(text, 5, 5)


def maker(judge, chat=None, *, vocabulary=WORLD, editor=None, detour_rate=0.5, **options):
    storyteller = Storyteller(chat=chat or judge, judge=judge, detour_rate=detour_rate)
    options = {"size": SIZE, **options}
    return KontextMultiTurn(
        editor=editor or Renderer(), storyteller=storyteller, judge=judge, vocabulary=vocabulary, **options
    )
