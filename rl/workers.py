"""Drawing for the learner: chunks of episodes, in this process or by Ray actors, with the same numbers from both.

A worker has a model of its own, loaded from the checkpoint that learning started from, into which the learner's weights
are installed before a chunk is drawn. What a chunk becomes depends on its episodes, the weights and the number of
threads alone, so it does not matter who draws it, or whether it had to be drawn twice because its worker was lost.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import torch

from ..agents.interleaved import Interleaved
from ..agents.pool import Pool, Resources, Setup, Task, start_ray, stop_ray
from ..agents.rollout import Episode, Rules, ScoreFn, grade, rollout, torch_threads
from ..agents.trajectory import Trajectory
from ..envs.protocols import Reply, Score
from ..envs.transcript import Transcript
from .sync import Receiver, Weights

Chunk = Sequence[Episode]
Ticket = int
"""Names what was submitted together."""


class Rollouts(Protocol):
    """Draws chunks with given weights."""

    @property
    def stats(self) -> Mapping[str, float]:
        """What there is to report so far, by name."""
        ...

    def submit(self, chunks: Sequence[Chunk], weights: Weights, *, is_greedy: bool = False) -> Ticket:
        """Ask for chunks, to be drawn with these weights; several generations may be asked for at a time.

        ``is_greedy``: as the policy is evaluated, with the most probable words and without noise.
        """
        ...

    def wait(self, ticket: Ticket) -> list[list[Trajectory]]:
        """The trajectories of each chunk, in order; a ticket can be waited for once."""
        ...

    def close(self) -> None:
        """Give up everything that is not finished, and the workers."""
        ...


class RolloutWorker:
    """One policy and its judge."""

    def __init__(
        self,
        make_policy: Callable[[], Interleaved],
        rules: Rules,
        score_fn: ScoreFn | None = None,
        *,
        threads: int = 1,
        is_graded_throughout: bool = False,
    ) -> None:
        """Args:

        make_policy: Loads a policy with a model of its own, which is changed; pickled where workers are processes.
        rules: Size, budget, grammar.
        score_fn: Judges finished transcripts; ``None``: they are judged elsewhere.
        threads: Threads of torch while drawing. Equal results need equal numbers.
        is_graded_throughout: Whether ``Trajectory.progress`` is filled, by ``score_fn``: the outcome after every
            emission.
        """
        self.rules, self.score_fn = rules, score_fn
        self.threads, self.is_graded_throughout = threads, is_graded_throughout
        with torch_threads(threads):
            self.policy = make_policy()
        self._receiver = Receiver(self.policy.model)
        sampling = replace(self.policy.pictures.sampling, noise=None)
        self._greedy = Interleaved(
            self.policy.model, self.policy.tokenizer, sampling, max_tokens=self.policy.max_tokens
        )

    def install(self, weights: Weights) -> int:
        """Draw with these weights from now on; their version.

        Raises:
            ValueError: They do not fit, or are not what was sent; see ``Receiver``.
        """
        with torch_threads(self.threads):  # products of matrices depend on it in their last digits
            return self._receiver.install(weights)

    def run(self, chunk: Chunk, version: int, is_greedy: bool = False) -> list[Trajectory]:
        """Draw a chunk.

        Args:
            chunk: Episodes, drawn as one batch.
            version: Of the weights it is to be drawn with.
            is_greedy: Whether to draw as the policy is evaluated, not as it learns.

        Raises:
            RuntimeError: Other weights are installed.
        """
        if self._receiver.version != version:
            raise RuntimeError(f"Expected weights of version {version}, got {self._receiver.version}.")
        drawn = rollout(
            self._greedy if is_greedy else self.policy,
            chunk,
            rules=self.rules,
            score_fn=self.score_fn,
            threads=self.threads,
            is_graded_throughout=self.is_graded_throughout,
        )
        for trajectory in drawn:
            trajectory.replies = [reply and _lean(reply) for reply in trajectory.replies]
        return drawn


def _lean(reply: Reply) -> Reply:
    """Without the steps of an ODE, from which nothing is learnt and which need not travel."""
    return replace(reply, path=tuple(step for step in reply.path if step.eta))


class LocalRollouts:
    """Chunks one after the other, in this process."""

    def __init__(self, make_worker: Callable[[], RolloutWorker]) -> None:
        """Args:

        make_worker: Makes the worker, when the first chunk is asked for.
        """
        self._make_worker = make_worker
        self._worker: RolloutWorker | None = None
        self._drawn: dict[Ticket, list[list[Trajectory]]] = {}
        self._next: Ticket = 0

    @property
    def stats(self) -> dict[str, float]:
        """Workers lost, of which there are none here."""
        return {"retries": 0.0}

    def submit(self, chunks: Sequence[Chunk], weights: Weights, *, is_greedy: bool = False) -> Ticket:
        """Draw right away."""
        if self._worker is None:
            self._worker = self._make_worker()
        version = self._worker.install(weights)
        ticket, self._next = self._next, self._next + 1
        self._drawn[ticket] = [self._worker.run(chunk, version, is_greedy) for chunk in chunks]
        return ticket

    def wait(self, ticket: Ticket) -> list[list[Trajectory]]:
        """What was drawn."""
        return self._drawn.pop(ticket)

    def close(self) -> None:
        """Give up the worker and what nobody has waited for."""
        self._worker = None
        self._drawn.clear()


Packed = tuple[Weights, dict[str, np.ndarray]]
"""Weights without their tensors, and these as arrays, which all workers of a node read from the same shared memory."""


class RemoteWorker:
    """A ``RolloutWorker`` behind Ray."""

    def __init__(self, make_worker: Callable[[], RolloutWorker]) -> None:
        self._worker = make_worker()

    def install(self, packed: Packed) -> int:
        """See ``RolloutWorker.install``; the arrays are copied, for torch would write to memory that others read."""
        weights, arrays = packed
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        return self._worker.install(replace(weights, tensors=tensors))

    def run(self, chunk: Chunk, version: int, is_greedy: bool) -> list[Trajectory]:
        """See ``RolloutWorker.run``."""
        return self._worker.run(chunk, version, is_greedy)


Verdict = tuple[Score, list[float | None]]
"""``Trajectory.score`` and ``Trajectory.progress``."""


class ScoreWorker:
    """A judge behind Ray, for verdicts that need a model or a server of their own."""

    def __init__(self, make_score_fn: Callable[[], ScoreFn], *, is_graded_throughout: bool = False) -> None:
        """Args:

        make_score_fn: Makes the judge in its own process; pickled.
        is_graded_throughout: See ``RolloutWorker``.
        """
        self.score_fn, self.is_graded_throughout = make_score_fn(), is_graded_throughout

    def judge(self, transcripts: Sequence[Transcript]) -> list[Verdict]:
        """A verdict on each transcript of a chunk, all judged at once as its worker would have done."""
        trajectories = [Trajectory(transcript=transcript) for transcript in transcripts]
        grade(trajectories, self.score_fn, is_graded_throughout=self.is_graded_throughout)
        return [(trajectory.score, trajectory.progress) for trajectory in trajectories if trajectory.score is not None]


class RayRollouts:
    """Chunks by Ray actors, several at a time; the trajectories are those of ``LocalRollouts``, bit for bit."""

    def __init__(
        self,
        make_worker: Callable[[], RolloutWorker],
        num_workers: int,
        *,
        resources: Resources | None = None,
        make_scorer: Callable[[], ScoreWorker] | None = None,
        num_scorers: int = 1,
        scorer_resources: Resources | None = None,
        address: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Start the workers, and Ray if it does not run yet.

        Args:
            make_worker: Makes a worker in its own process, on its own node: what it reads has to be there. Pickled.
            num_workers: How many.
            resources: Of each; as many processors as it has threads.
            make_scorer: Makes a judge in its own process, for workers that have none; ``None``: they judge themselves.
                A chunk is judged while the next ones are drawn.
            num_scorers: How many judges.
            scorer_resources: Of each judge.
            address: Of a Ray cluster; ``None``: start Ray on this machine. See ``agents.pool.start_ray``.
            timeout: Seconds to wait for the resources.

        Raises:
            ValueError: There is no such cluster, or it has not got what was asked for.
        """
        with ExitStack() as opened:
            if start_ray(address):
                opened.callback(stop_ray)
            self.pool = Pool(partial(RemoteWorker, make_worker), num_workers, resources=resources, timeout=timeout)
            opened.callback(self.pool.close)
            self.scorers: Pool | None = None
            if make_scorer is not None:
                self.scorers = Pool(make_scorer, num_scorers, resources=scorer_resources, timeout=timeout)
                opened.callback(self.scorers.close)
            self._opened = opened.pop_all()  # nothing above went wrong
        self._drawn: dict[Ticket, list[list[Trajectory]]] = {}
        self._judged: dict[Ticket, dict[int, int]] = {}  # to the ticket of each chunk's verdicts

    @property
    def stats(self) -> dict[str, float]:
        """Chunks that were drawn or judged again because their worker was lost, and workers that are there."""
        stats = self.pool.stats
        if self.scorers is not None:
            stats |= {f"scorer_{name}": value for name, value in self.scorers.stats.items()}
        return stats

    def submit(self, chunks: Sequence[Chunk], weights: Weights, *, is_greedy: bool = False) -> Ticket:
        """Queue up chunks; the weights go to Ray once, and from there to each worker that has others."""
        arrays = {name: tensor.numpy() for name, tensor in weights.tensors.items()}
        packed: Packed = (replace(weights, tensors={}), arrays)
        setup = Setup((weights.version, weights.checksum), "install", self.pool.share(packed))
        tasks = [Task("run", (list(chunk), weights.version, is_greedy), setup) for chunk in chunks]
        judged: dict[int, int] = {}
        ticket = self.pool.submit(tasks, None if self.scorers is None else partial(self._have_judged, judged))
        self._judged[ticket] = judged  # filled as chunks are drawn
        return ticket

    def _have_judged(self, judged: dict[int, int], index: int, trajectories: list[Trajectory]) -> None:
        assert self.scorers is not None
        judged[index] = self.scorers.submit([Task("judge", ([each.transcript for each in trajectories],))])

    def wait(self, ticket: Ticket) -> list[list[Trajectory]]:
        """The trajectories, when all are drawn and judged.

        Raises:
            RuntimeError: No worker is left, or a chunk lost its worker again and again.
            Exception: What a worker has raised, such as ``ValueError`` for a checkpoint that is not on its node.
        """
        if ticket not in self._drawn:  # it is, where an interruption came while verdicts were waited for
            self._drawn[ticket] = self.pool.wait(ticket)
        drawn, judged = self._drawn[ticket], self._judged[ticket]
        while self.scorers is not None and judged:
            index, number = next(iter(judged.items()))
            (verdicts,) = self.scorers.wait(number)
            for trajectory, (score, progress) in zip(drawn[index], verdicts, strict=True):
                trajectory.score, trajectory.progress = score, progress
                trajectory.transcript.grade(score)
            del judged[index]
        del self._judged[ticket]
        return self._drawn.pop(ticket)

    def close(self) -> None:
        """Give up what is not drawn, end the workers, and Ray if it was started for them."""
        self._opened.close()
