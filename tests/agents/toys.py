"""A painter that paints nothing but who painted it and when, and counts what it does; verifiers to go with it."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from strokes.envs.protocols import Cost, Opinion, Reply
from strokes.envs.stages import Emission, Stage

PLAN = "<ins>Draw it.</ins><des>It.</des>"
GUIDED = 2
"""Branches of guidance: network evaluations of a step."""


class Mark(NamedTuple):
    """What an image says of itself."""

    member: int
    """Last integer of the session's seed."""
    canvas: int
    """The integer before."""
    image: int
    """Which of the drawing's images, from 0."""
    step: int
    """Sampling steps it had."""


def mark(image):
    """What a toy image says."""
    return Mark(*image[0, 0].tolist(), int(image[0, 1, 0]))


def paint(size, *said):
    """An image that says so."""
    image = np.full((size, size, 3), 255, np.uint8)
    image[0, 0], image[0, 1, 0] = said[:3], said[3]
    return image


class ToySession:
    def __init__(self, transcript, size, seed):
        self.transcript, self.size, self.seed = transcript, size, tuple(seed)


class ToyPainter:
    """Draws ``rounds`` sketches of ``steps`` sampling steps, redraws where it is told to, and stops.

    ``done`` counts, by member and kind, everything it was made to do.
    """

    def __init__(self, steps=3, rounds=1, tokens=5):
        self.steps, self.rounds, self.tokens = steps, rounds, tokens
        self.watcher = None
        self.done = Counter()

    def start(self, transcript, size, seed):
        return ToySession(transcript, size, seed)

    def close(self, sessions):
        pass

    def act(self, sessions, masks):
        stages = [self._stage(session, mask) for session, mask in zip(sessions, masks, strict=True)]
        drawing = [session for session, stage in zip(sessions, stages, strict=True) if stage.is_image]
        drawn = iter(self._draw(drawing))
        return [
            self._reply(stage, *next(drawn)) if stage.is_image else self._say(session, stage)
            for session, stage in zip(sessions, stages, strict=True)
        ]

    def _stage(self, session, mask):
        sketches = sum(entry.stage is Stage.SKETCH for entry in session.transcript.accepted)
        wanted = [Stage.REFINE, Stage.SKETCH, Stage.INSPECT]
        wanted += [Stage.STOP, Stage.PLAN] if sketches >= self.rounds else [Stage.PLAN]
        return next(stage for stage in wanted if mask[stage])

    def _reply(self, stage, image, cost):
        return Reply(emission=Emission(stage, image), cost=cost)

    def _say(self, session, stage):
        words = {Stage.PLAN: PLAN, Stage.INSPECT: "It is right.", Stage.STOP: ""}[stage]
        self.done[session.seed[-1], "tokens"] += self.tokens
        return Reply(emission=Emission(stage, words), cost=Cost(tokens=self.tokens))

    def _draw(self, sessions):
        costs = {id(session): Counter() for session in sessions}
        stopped = {}
        for step in range(1, self.steps + 1):
            going = [session for session in sessions if id(session) not in stopped]
            for session in going:
                self._count(costs, session, steps=1, nfe=GUIDED)
            drafts = [s for s in going if self.watcher is not None and self.watcher.wants(s, step)]
            pairs = [(session, self._image(session, step)) for session in drafts]
            for session in drafts:
                self._count(costs, session, decodes=1, previews=1)
            for (session, image), goes in zip(pairs, self.watcher.look(pairs) if pairs else [], strict=True):
                if not goes:
                    stopped[id(session)] = image
        result = []
        for session in sessions:
            if id(session) not in stopped:
                self._count(costs, session, decodes=1)
            image = stopped.get(id(session), self._image(session, self.steps))
            result.append((image, Cost(**costs[id(session)])))
        return result

    def _count(self, costs, session, **counts):
        for kind, number in counts.items():
            costs[id(session)][kind] += number
            self.done[session.seed[-1], kind] += number

    def _image(self, session, step):
        number = sum(entry.stage.is_image for entry in session.transcript.accepted)
        return paint(session.size, session.seed[-1], session.seed[-2], number, step)

    def total(self, kind):
        """How much of a kind was done for all members."""
        return sum(number for (_, each), number in self.done.items() if each == kind)


class Says:
    """A verifier that answers by functions of an image's mark; every question costs a call, and is remembered."""

    def __init__(self, **answers):
        """``answers``: by question, a function from a mark to an ``Opinion``, or to the probability of yes."""
        self.answers, self.asked = answers, []

    def ask(self, question, looks):
        return [self._answer(question, mark(look.image)) for look in looks]

    def _answer(self, question, seen):
        self.asked.append((question, seen))
        answer = self.answers[question](seen)
        if not isinstance(answer, Opinion):
            answer = Opinion(said=answer >= 0.5, p_yes=answer, p_no=1 - answer, cost=Cost(calls=1, remote_tokens=7))
        return answer

    def count(self, question):
        return sum(asked == question for asked, _ in self.asked)
