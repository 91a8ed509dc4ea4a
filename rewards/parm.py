"""PARM's verifier, and PARM as a reward.

PARM (Z. Guo et al., arXiv 2501.13926; github.com/ZiyuGuo99/Image-Generation-CoT) asks three questions about images on
their way to the end. *Clarity*: is this image far enough for judging it at all? *Potential*: may it still become what
the prompt asks for? *Outcome*: is it what the prompt asks for? The words of the questions here are our own; who answers
does not matter: a model that can be asked yes or no, such as the policy's own understanding, trained for it or not
(``AnsweringVerifier``), a judge behind a server (``RemoteVerifier``), or the exact world (``ExactVerifier``).

PARM samples its answers at temperature 1, so that an image asked about twice may be called both. Here an answer is the
more probable word, and its probability is kept beside it: what is learnt from does not depend on luck. Searches "as
released" sample, see ``sampled``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..envs.protocols import Answerer, Cost, Look, MeteredAnswerer, Opinion, Score, Verifier, VerifierQuestion
from ..envs.scenes.changes import assign
from ..envs.scenes.detect import detect
from ..envs.scenes.detection import UNKNOWN
from ..envs.scenes.graph import Graph
from ..envs.scenes.tasks import verdict
from ..envs.scenes.verdicts import THRESHOLD
from ..envs.transcript import Transcript
from .critics import NO, YES, Query
from .exact import NOT_UNDERSTOOD, ExactCritic
from .question import Judge, Question, Request, Verdict
from .review import graph_of_task, things_seen

NOTES = ("explanation", "correction")
WAY = "You are shown a picture that may still be unfinished, a sketch or a blurred preview of it, and a prompt. "
QUESTIONS: Mapping[VerifierQuestion, Question] = {
    "clarity": Question(
        name="clarity",
        instructions=WAY
        + "Judge only whether the picture is plain enough to be judged. Say yes if you can tell what every thing on it "
        "is, its colour and its place, right or wrong. Say no if it is empty, or if anything on it is too vague to "
        "be named.",
        choices=(YES, NO),
        notes=NOTES,
    ),
    "potential": Question(
        name="potential",
        instructions=WAY
        + "Judge whether the picture is on its way to what the prompt asks for. Say yes if nothing on it contradicts "
        "the prompt: what is still missing can be added and is not wrong. Say no if it shows what the prompt does not "
        "ask for, or a wrong number, colour, kind or place of something.",
        choices=(YES, NO),
        notes=NOTES,
    ),
    "outcome": Question(
        name="outcome",
        instructions="You are shown a finished picture and a prompt. Say yes if the picture shows exactly what the "
        "prompt asks for: every object in its number, colour and place, and no object besides. Say no otherwise, and "
        "write as the correction what would put it right.",
        choices=(YES, NO),
        notes=NOTES,
    ),
}
"""What a remote judge is asked. Choices carry codes and notes come first, see ``Question``."""


@dataclass(frozen=True, slots=True)
class AnsweringVerifier:
    """A model that can be asked yes or no about an image; it gives probabilities and no words.

    What it reads to answer is on the bill where it can tell (``MeteredAnswerer``).
    """

    answerer: Answerer

    def ask(self, question: VerifierQuestion, looks: Sequence[Look]) -> list[Opinion]:
        """One opinion for each look."""
        images, prompts = [look.image for look in looks], [look.prompt for look in looks]
        asked = [ASKED[question]] * len(looks)
        opinions = [_answered(p_yes) for p_yes in self.answerer.answer(images, asked, prompts)]
        if not isinstance(self.answerer, MeteredAnswerer):
            return opinions
        counts = self.answerer.num_read(images, asked, prompts)
        return [replace(each, cost=Cost(encoded=count)) for each, count in zip(opinions, counts, strict=True)]


ASKED: Mapping[VerifierQuestion, str] = {
    "clarity": "Is the picture plain enough to be judged? Answer yes or no.",
    "potential": "May the picture still become exactly this? Answer yes or no.",
    "outcome": "Does the picture show exactly this? Answer yes or no.",
}
"""What a model is asked that answers with a probability, after it has read the prompt and seen the picture. Short, as
PARM's own questions: the instructions of ``QUESTIONS``, which a remote judge needs, are 200 tokens to bagel-nano, and
with them around the prompt it did not learn to answer (docs/parm.md)."""


def _answered(p_yes: float | None) -> Opinion:
    if p_yes is None:
        return Opinion(said=None)
    return Opinion(said=p_yes >= 0.5, p_yes=p_yes, p_no=1 - p_yes)


@dataclass(frozen=True, slots=True)
class RemoteVerifier:
    """A judge behind a server, asked with guards; it says yes or no, and no probabilities between."""

    judge_client: Judge

    def ask(self, question: VerifierQuestion, looks: Sequence[Look]) -> list[Opinion]:
        """One opinion for each look."""
        requests = [
            Request(question=QUESTIONS[question], fields={"prompt": look.prompt}, images=(look.image,))
            for look in looks
        ]
        return [_judged(verdict) for verdict in self.judge_client.ask(requests)]


def _judged(found: Verdict) -> Opinion:
    cost = Cost(calls=found.attempts, remote_tokens=found.prompt_tokens + found.completion_tokens)
    if found.data is None:
        return Opinion(said=None, words=found.error, cost=cost)
    said, (explanation, correction) = found.data["choice"] == YES, (str(found.data.get(note, "")) for note in NOTES)
    words = "" if said else correction or explanation
    return Opinion(said=said, p_yes=float(said), p_no=float(not said), words=words, cost=cost)


@dataclass(frozen=True, slots=True)
class ExactVerifier:
    """A verifier of the mini-world that is never wrong, by probabilities of 0 and 1.

    Clear is an image on which there is something, and every thing is one that the detector can name. It has potential
    as long as it is exactly what a part of the prompt asks for: incomplete is not wrong, of sketches and previews
    alike. The outcome is the strict verdict. Prompts that are not of the world get no answer.
    """

    def ask(self, question: VerifierQuestion, looks: Sequence[Look]) -> list[Opinion]:
        """One opinion for each look."""
        by_question = {"clarity": _clarity, "potential": _potential, "outcome": _outcome}
        return [by_question[question](look) for look in looks]


def _exact(said: bool, words: str) -> Opinion:
    return Opinion(said=said, p_yes=float(said), p_no=float(not said), words="" if said else words)


def _clarity(look: Look) -> Opinion:
    seen = detect(look.image)
    vague = sum(item.shape == UNKNOWN or item.score <= THRESHOLD for item in seen)
    return _exact(bool(seen) and not vague, f"{vague} of {len(seen)} things cannot be named" if seen else "it is blank")


def _potential(look: Look) -> Opinion:
    graph = graph_of_task(look.prompt, look.meta)
    if graph is None:
        return Opinion(said=None, words=NOT_UNDERSTOOD)
    seen = detect(look.image)
    there = Counter(assign(things_seen(seen, look.image.shape[0]), graph)[0].values())
    nodes = tuple(replace(node, count=there[node.id]) for node in graph.nodes if there[node.id])
    part = Graph(nodes, graph.induced(there).edges)  # what is there of what was asked for
    if not part.nodes:
        return _exact(not seen, "nothing on it was asked for")
    judged = verdict(seen, part.to_meta())
    return _exact(judged.strict, "; ".join(judged.reasons))


def _outcome(look: Look) -> Opinion:
    query = Query(kind="outcome", prompt=look.prompt, canvas=look.image, meta=look.meta)
    (judgement,) = ExactCritic().judge([query])
    if judgement.is_right is None:
        return Opinion(said=None, words=judgement.explanation)
    return _exact(judgement.is_right, judgement.correction or judgement.explanation)


Place = tuple[int, int]
"""Number of a transcript, and of an emission in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParmReward:
    """PARM as a reward of the whole process: the outcome, and what every image did for its chances.

    The outcome is the probability that the picture is what the prompt asks for, 0 where a drawing ended without one. An
    accepted image that is clear earns by how much it raised the probability that the drawing still can become it, in
    [-1, 1]:

        process · (potential(image) - potential(last clear canvas)),    before the first clear one 1/2.

    One that is not clear earns nothing, as PARM asks about potential only then: a blank canvas contradicts no prompt,
    and would earn half otherwise. The sum over a drawing is its outcome plus what the last clear image is above an even
    chance, so that going back and forth earns nothing. That last chance is not taken back at the end, as shaping
    without any effect on what is best (A. Ng et al., ICML 1999) would: under rewards-to-go, which sum up to the end,
    taking it back would cancel the gain of the very image that is credited, and leave a baseline. The price is a bias:
    at ``process`` 1 whoever stops on a good beginning is paid as one who goes on and is right every second time.

    A verdict that could not be had is ``None``, and so is the gain over it: the learner leaves both out. Illegal
    emissions and those from outside earn nothing; a canvas given from outside is asked about all the same, as what the
    next image starts from. Where ``process`` is 0, nothing but the outcome is asked.

    The released training adds "PARM guidance" to its DPO, a loss on the verifier's probability for an image that was
    sampled without gradient and turned into a plain number: a constant, which teaches nothing. Here the same
    probability is a reward, and its gradient is that of the policy's likelihood (GRPO); that is a deviation.
    """

    verifier: Verifier
    process: float = 1.0
    """Weight of the gains; at 1 an image that decides everything earns half of what the outcome can."""
    names: ClassVar[tuple[str, ...]] = ("outcome", "potential")

    def __call__(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """One score for each transcript, in order."""
        images = [(i, k) for i, each in enumerate(transcripts) for k in _images(each) if self.process]
        clarity = self._asked("clarity", transcripts, images)
        clear = [place for place in images if clarity[place].said]
        potential = self._asked("potential", transcripts, clear)
        drawn = [(i, _images(each)[-1]) for i, each in enumerate(transcripts) if each.canvas is not None]
        outcome = self._asked("outcome", transcripts, drawn)
        scores = []
        for i, transcript in enumerate(transcripts):
            chances = {
                k: None if opinion.said is None else potential[i, k].p_yes
                for (j, k), opinion in clarity.items()
                if j == i and opinion.said is not False
            }
            ends = [opinion.p_yes for (j, _), opinion in outcome.items() if j == i]
            bills = [o.cost for each in (clarity, potential, outcome) for (j, _), o in each.items() if j == i]
            cost = sum(bills, Cost(questions=len(bills)))
            scores.append(self._score(transcript, chances, ends, cost))
        return scores

    def _asked(
        self, question: VerifierQuestion, transcripts: Sequence[Transcript], places: Sequence[Place]
    ) -> dict[Place, Opinion]:
        """What the verifier says of accepted images."""
        looks = []
        for i, k in places:
            transcript = transcripts[i]
            image = transcript.emissions[k].content
            assert not isinstance(image, str)
            looks.append(Look(transcript.prompt, image, transcript.meta))
        return dict(zip(places, self.verifier.ask(question, looks) if looks else [], strict=True))

    def _score(
        self, transcript: Transcript, chances: Mapping[int, float | None], ends: Sequence[float | None], cost: Cost
    ) -> Score:
        """Args:

        transcript: Of one drawing.
        chances: Of its clear images, by emission; ``None``: no verdict, on clarity or on potential.
        ends: The verdict on its outcome; none where there is no picture.
        cost: Of all of them.
        """
        steps: list[Mapping[str, float | None]] = []
        pay: list[float | None] = []
        last: float | None = 0.5
        for k, entry in enumerate(transcript.emissions):
            chance = chances.get(k, last)
            gain = None if chance is None or last is None else chance - last
            earns = k in chances and not entry.outside
            steps.append({"potential": gain} if earns else {})
            pay.append(0.0 if not earns else None if gain is None else self.process * gain)
            last = chance
        total = ends[0] if ends else (None if transcript.ended is None else 0.0)
        return Score(total=total, terms={"outcome": total}, steps=tuple(steps), pay=tuple(pay), cost=cost)


def _images(transcript: Transcript) -> list[int]:
    """Numbers of the accepted images of a transcript, those given from outside too."""
    return [k for k, entry in enumerate(transcript.emissions) if entry.stage.is_image and not entry.error]
