"""Reflection: a finished drawing corrected by a verifier's words, as PARM++ does it.

As long as the verifier says "no" to the outcome, it says what is wrong, and the policy draws again, three times at most
(Z. Guo et al., arXiv 2501.13926; its code is not released). Here the words enter the process itself: what was said
after the last image is taken back, and the verifier inspects the image in its place, with a ``<refine>``. Where the
last image was itself a refinement, after which no inspection may come, the words are a plan for another sketch. Either
way they are recorded under the verifier's name, and the policy goes on until it stops again.
"""

from collections.abc import Sequence
from dataclasses import replace

from ..envs.markup import Inspection, Plan
from ..envs.protocols import Cost, Opinion, Policy, Reply, Verifier
from ..envs.stages import Emission, Stage
from ..envs.transcript import Transcript
from .remote_chat import MAX_CHARS, on_one_line
from .rollout import Rules, play
from .search import Found, SearchSession, asked
from .trajectory import Trajectory

MAX_REFLECTIONS = 3
"""Most reflections on a drawing, as in the paper."""
VERIFIER = "verifier"
"""Source of the verifier's words in transcripts."""
FOUND_WRONG = "The picture is not yet what the prompt asks for."
AGAIN = "Draw it again, so that it shows exactly what the prompt asks for."
"""What is asked for where a verifier gives no words."""


def reflect(
    policy: Policy,
    verifier: Verifier,
    sessions: Sequence[SearchSession],
    found: Sequence[Found],
    verdicts: Sequence[Opinion | None],
    rules: Rules,
    rounds: int,
) -> list[Found]:
    """Chosen drawings, corrected where the verifier finds them wrong; all canvases together.

    A drawing is left as it is once the answer is not "no", or where it has no picture, or no budget for another one.

    Args:
        policy: Draws again.
        verifier: Says what is wrong.
        sessions: Whose drawings these are; nothing from before the search is taken back.
        found: The drawings, and what they cost so far.
        verdicts: What the verifier said of their outcomes, and is not asked again; ``None``: it was not asked.
        rules: Of the drawings.
        rounds: Most corrections.
    """
    result = list(found)
    known = {k: opinion for k, opinion in enumerate(verdicts) if opinion is not None}
    going = [k for k, each in enumerate(found) if each.best.transcript.canvas is not None]
    for number in range(rounds):
        unasked = [k for k in going if k not in known]
        opinions = asked(verifier, "outcome", [result[k].best.transcript for k in unasked])
        for k, opinion in zip(unasked, opinions, strict=True):
            known[k] = opinion
            result[k] = result[k]._replace(bill=result[k].bill + opinion.cost)
        again = dict[int, Transcript]()
        for k in (k for k in going if known[k].said is False):
            first = len(sessions[k].transcript.emissions)
            corrected = _corrected(result[k].best.transcript, first, known[k].words, rules)
            again |= {} if corrected is None else {k: corrected}
        going, known = list(again), {}
        seeds = [(*result[k].best.seed, number) for k in going]
        for k, drawn in zip(going, play(policy, list(again.values()), seeds, rules), strict=True):
            result[k] = Found(_joined(result[k].best, drawn), result[k].bill + drawn.cost)
    return result


def _corrected(drawing: Transcript, first: int, words: str, rules: Rules) -> Transcript | None:
    """The drawing up to its last image and then the verifier's words; ``None``: there is no room for them."""
    images = [k for k, entry in enumerate(drawing.emissions) if entry.stage.is_image and not entry.error]
    if images[-1] < first:
        return None
    again = drawing.cut(images[-1] + 1)
    plain = on_one_line(words)[:MAX_CHARS] or AGAIN
    if Stage.INSPECT in again.legal(rules.grammar):
        said = Emission(Stage.INSPECT, str(Inspection(FOUND_WRONG, plain)))
    else:
        said = Emission(Stage.PLAN, str(Plan(plain, on_one_line(drawing.prompt)[:MAX_CHARS] or AGAIN)))
    error = again.record(said, grammar=rules.grammar, max_chars=rules.max_chars, source=VERIFIER)
    return None if error or again.spent >= rules.budget else again


def _joined(before: Trajectory, after: Trajectory) -> Trajectory:
    """The corrected drawing with a reply for every emission of its own; what was taken back stays on the bill alone."""
    given = next(k for k, reply in enumerate(after.replies) if reply is not None)
    said = after.transcript.emissions[given - 1]
    words = Reply(emission=Emission(said.stage, said.content), source=VERIFIER, cost=Cost())
    return replace(after, seed=before.seed, replies=[*before.replies[: given - 1], words, *after.replies[given:]])
