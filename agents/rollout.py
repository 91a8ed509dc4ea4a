"""Policies times canvases to trajectories, in fixed chunks.

An episode is a member of a prompt's group. A chunk is a run of consecutive episodes that are drawn as one batch:
which episodes those are depends on the seed, the step and the chunk size alone, so a chunk is the same wherever it
is drawn, and is what is dispatched and requeued.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..envs.protocols import Policy, Reply, Score
from ..envs.stages import Grammar
from ..envs.transcript import Ending, Transcript
from .trajectory import Trajectory

ScoreFn = Callable[[Sequence[Transcript]], Sequence[Score]]
"""Judges transcripts; a ``Reward`` is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """What is to be drawn."""

    prompt: str
    seed: tuple[int, int, int, int]
    """(seed, step, prompt, member)."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What rewards need to know of the task."""

    @property
    def group(self) -> int:
        """Number of its prompt: members of a group are compared with each other."""
        return self.seed[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How episodes run; the defaults are those of ``CanvasEnv``."""

    size: int = 48
    """Side of the canvas in pixels."""
    budget: int = 32
    """Most emissions of an episode."""
    max_chars: int = 4096
    """Longest legal text."""
    grammar: Grammar = field(default_factory=Grammar)
    """Options of the order of stages."""


def chunks(
    prompts: Sequence[str | tuple[str, Mapping[str, Any]]],
    *,
    seed: int,
    step: int = 0,
    num_members: int = 1,
    chunk_size: int = 16,
) -> list[list[Episode]]:
    """Episodes of a step, in chunks.

    Args:
        prompts: Texts, or (text, meta).
        seed: Of the run.
        step: Of the run; 0 for an evaluation.
        num_members: Episodes per prompt.
        chunk_size: Episodes per chunk; 16 canvases share the cost of a forward of a small model.
    """
    if chunk_size < 1 or num_members < 1:
        raise ValueError(f"Expected chunk_size and num_members of at least 1, got {chunk_size} and {num_members}.")
    pairs = [(prompt, {}) if isinstance(prompt, str) else prompt for prompt in prompts]
    episodes = [
        Episode(prompt=prompt, meta=meta, seed=(seed, step, k, member))
        for k, (prompt, meta) in enumerate(pairs)
        for member in range(num_members)
    ]
    return [episodes[start : start + chunk_size] for start in range(0, len(episodes), chunk_size)]


def rollout(
    policy: Policy,
    chunk: Sequence[Episode],
    *,
    rules: Rules | None = None,
    score_fn: ScoreFn | None = None,
    threads: int | None = None,
    is_graded_throughout: bool = False,
) -> list[Trajectory]:
    """Draw one chunk.

    Args:
        policy: Draws.
        chunk: Episodes, drawn as one batch.
        rules: Size, budget, grammar.
        score_fn: Judges the finished transcripts, all at once; the verdicts are also written into them.
        threads: Threads of torch meanwhile; ``None``: as they are. Equal results need equal numbers.
        is_graded_throughout: Whether ``Trajectory.progress`` is filled: every canvas on the way is judged too.

    Raises:
        ValueError: A judge that returns another number of scores than there are transcripts.
    """
    rules = rules or Rules()
    transcripts = [
        Transcript(
            prompt=episode.prompt,
            size=rules.size,
            id="-".join(map(str, episode.seed)),
            seed=episode.seed[0],
            meta=episode.meta,
        )
        for episode in chunk
    ]
    with torch_threads(threads):
        trajectories = play(policy, transcripts, [episode.seed for episode in chunk], rules)
    if score_fn is not None:
        grade(trajectories, score_fn, is_graded_throughout=is_graded_throughout)
    return trajectories


def grade(trajectories: Sequence[Trajectory], score_fn: ScoreFn, *, is_graded_throughout: bool = False) -> None:
    """Judge finished trajectories, all at once; the verdicts are also written into their transcripts.

    Args:
        trajectories: Get a score, and ``progress`` where asked for.
        score_fn: Judges.
        is_graded_throughout: Whether the transcript up to each image is judged too.

    Raises:
        ValueError: A judge that returns another number of scores than there are transcripts.
    """
    wholes = [trajectory.transcript for trajectory in trajectories]
    images = [
        (i, k)
        for i, transcript in enumerate(wholes)
        for k, entry in enumerate(transcript.emissions)
        if is_graded_throughout and entry.stage.is_image and not entry.error
    ]
    judged = [*wholes, *(wholes[i].cut(k + 1) for i, k in images)]
    scores = list(score_fn(judged)) if judged else []
    if len(scores) != len(judged):
        raise ValueError(f"Expected a score for each of {len(judged)} transcripts, got {len(scores)}.")
    canvases = dict(zip(images, (score.total for score in scores[len(wholes) :]), strict=True))
    for i, (trajectory, score) in enumerate(zip(trajectories, scores, strict=False)):
        trajectory.score = score
        trajectory.transcript.grade(score)
        if is_graded_throughout:
            last: float | None = None
            trajectory.progress = [
                last := canvases.get((i, k), last) for k in range(len(trajectory.transcript.emissions))
            ]


def play(
    policy: Policy,
    transcripts: Sequence[Transcript],
    seeds: Sequence[Sequence[int]],
    rules: Rules,
    *,
    on_advance: Callable[[Sequence[Trajectory]], None] | None = None,
) -> list[Trajectory]:
    """Drive sessions on open transcripts until each has stopped or used up its budget, all together.

    The transcripts are written to. What a budget counts is what a transcript has spent, before this call too.

    Args:
        policy: Draws.
        transcripts: Open ones.
        seeds: Of the sessions.
        rules: Size, budget, grammar.
        on_advance: Told after every emission which trajectories have one more; it may end their transcripts.
    """
    trajectories = [
        Trajectory(transcript=transcript, seed=tuple(seed), replies=[None] * len(transcript.emissions))
        for transcript, seed in zip(transcripts, seeds, strict=True)
    ]
    sessions = [policy.start(each.transcript, rules.size, each.seed) for each in trajectories]
    try:
        while open_ := [k for k, each in enumerate(trajectories) if _is_open(each.transcript, rules)]:
            masks = [trajectories[k].transcript.mask(rules.grammar) for k in open_]
            for k, reply in zip(open_, policy.act([sessions[k] for k in open_], masks), strict=True):
                _record(trajectories[k], reply, rules)
            if on_advance is not None:
                on_advance([trajectories[k] for k in open_])
    finally:
        policy.close(sessions)
    return trajectories


def _is_open(transcript: Transcript, rules: Rules) -> bool:
    if not transcript.ended and transcript.spent >= rules.budget:
        transcript.ended = Ending.BUDGET
    return transcript.ended is None


def _record(trajectory: Trajectory, reply: Reply, rules: Rules) -> None:
    trajectory.transcript.record(reply.emission, grammar=rules.grammar, max_chars=rules.max_chars, source=reply.source)
    trajectory.replies.append(reply)


@contextmanager
def torch_threads(num: int | None) -> Iterator[None]:
    """``num`` threads of torch inside."""
    if num is None:
        yield
        return
    import torch  # painters without a model need none

    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)
