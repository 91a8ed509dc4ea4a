"""Answers drawn by their probabilities."""

import numpy as np
import pytest

from strokes.envs.protocols import Look, Opinion
from strokes.rewards.sampled import Sampled

RNG = np.random.default_rng(0)
LOOKS = [Look(f"prompt {k % 7}", RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for k in range(400)]


class Sure:
    """Says the same of everything."""

    def __init__(self, p_yes, p_no, said=False):
        self.opinion = Opinion(said=said, p_yes=p_yes, p_no=p_no)

    def ask(self, question, looks):
        return [self.opinion] * len(looks)


def words(verifier, question="clarity", looks=LOOKS, seed=0):
    return [opinion.said for opinion in Sampled(verifier=verifier, seed=seed).ask(question, looks)]


@pytest.mark.parametrize(("p_yes", "p_no"), [(0.48, 0.52), (0.2, 0.8), (0.12, 0.04)])
def test_yes_is_said_as_often_as_it_is_probable(p_yes, p_no):
    found = Sampled(verifier=Sure(p_yes, p_no), seed=0).ask("clarity", LOOKS)
    assert np.mean([opinion.said for opinion in found]) == pytest.approx(p_yes / (p_yes + p_no), abs=0.08)  # 3 sigma
    assert {(opinion.p_yes, opinion.p_no) for opinion in found} == {(p_yes, p_no)}


def test_a_word_belongs_to_the_seed_the_question_the_prompt_and_the_image():
    even = Sure(0.5, 0.5)
    said = words(even)
    assert said == [words(even, looks=[look])[0] for look in LOOKS] == words(even, looks=LOOKS[::-1])[::-1]
    others = (
        words(even, seed=1),
        words(even, "potential"),
        words(even, looks=[look._replace(prompt="another") for look in LOOKS]),
        words(even, looks=[look._replace(image=255 - look.image) for look in LOOKS]),
    )
    for other in others:
        assert np.mean([a == b for a, b in zip(said, other, strict=True)]) == pytest.approx(0.5, abs=0.1)
    flipped = np.asfortranarray(LOOKS[0].image)
    assert words(even, looks=[LOOKS[0]._replace(image=flipped)]) == said[:1]


@pytest.mark.parametrize("answer", [(1.0, 0.0, True), (0.0, 1.0, False), (0.7, None, True), (None, None, None)])
def test_what_is_certain_or_unknown_stays(answer):
    p_yes, p_no, said = answer
    assert set(words(Sure(p_yes, p_no, said))) == {said}
