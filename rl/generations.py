"""Generations: which episodes a process draws in each, with which weights, and how far that runs ahead of learning.

Episodes are seeded by (seed, generation, prompt, member) and nothing else. Weights that rollouts ran with are known by
their version, the number of the generation they were collected for.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..agents.rollout import Episode, chunks
from ..agents.trajectory import Trajectory
from .sync import Weights
from .workers import Rollouts, Ticket

Task = tuple[str, Mapping[str, Any]]
"""A prompt and what rewards need to know of it."""


@dataclass(slots=True, kw_only=True, eq=False)
class Generations:
    """The generations of one process, drawn one after another."""

    tasks: Sequence[Task]
    """In the order of training. Every generation takes the next ones, from the start again at the end."""
    rollouts: Rollouts
    collect: Callable[[int], Weights]
    """Copies the weights of the moment, under a version: the number of a generation, or below 0 of a look."""
    draws_with: Callable[[Weights], Weights] | None = None
    """From the weights of the moment, collected for a generation, to those that draw it; ``None``: the same."""
    num: int
    """Of the whole run; none is admitted beyond."""
    prompts: int
    """Of a generation, over all processes."""
    group: int
    """Drawings of a prompt."""
    seed: int
    chunk_size: int
    """Episodes drawn as one batch; see ``agents.rollout``."""
    max_staleness: int
    """Generations that rollouts may be ahead of the weights they are trained with."""
    processes: int
    rank: int
    """Of this process."""
    next: int = 0
    """Number of the one that ``draw_next`` draws."""
    behaviour: Weights | None = None
    """What the last one was drawn with."""
    _admitted: deque[tuple[int, Ticket, Weights]] = field(default_factory=deque)

    def episodes(self, number: int) -> list[Episode]:
        """This process's episodes of a generation; members of a group are consecutive in the whole of it."""
        usable = len(self.tasks) // self.prompts * self.prompts  # TRL's sampler drops an incomplete generation
        start = number * self.prompts % usable
        size = self.prompts * self.group
        tasks = self.tasks[start : start + self.prompts]
        (every,) = chunks(tasks, seed=self.seed, step=number, num_members=self.group, chunk_size=size)
        share = size // self.processes
        return every[self.rank * share : (self.rank + 1) * share]

    def draw_next(self) -> list[Trajectory]:
        """The trajectories of the next generation, drawn now or admitted earlier."""
        end = max(self.next + 1, min(self.next + self.max_staleness + 1, self.num))
        for ahead in range(self.next + len(self._admitted), end):
            learnt = self.collect(self.next)
            self.admit(ahead, learnt if self.draws_with is None else self.draws_with(learnt))
        number, ticket, self.behaviour = self._admitted.popleft()
        assert number == self.next
        self.next += 1
        return self._wait(ticket)

    def admit(self, number: int, weights: Weights) -> None:
        """Ask for a generation early, drawn with these weights."""
        self._admitted.append((number, self.rollouts.submit(self._chunks(self.episodes(number)), weights), weights))

    @property
    def admitted(self) -> list[tuple[int, Weights]]:
        """Generations that were asked for and not yet drawn, with their weights."""
        return [(number, weights) for number, _, weights in self._admitted]

    def draw(self, episodes: Sequence[Episode], *, is_greedy: bool) -> list[Trajectory]:
        """Episodes drawn with the weights of the moment, as the policy is evaluated or as it learns."""
        weights = self.collect(-1 - self.next)
        return self._wait(self.rollouts.submit(self._chunks(episodes), weights, is_greedy=is_greedy))

    def _chunks(self, episodes: Sequence[Episode]) -> list[Sequence[Episode]]:
        size = self.chunk_size
        return [episodes[k : k + size] for k in range(0, len(episodes), size)]

    def _wait(self, ticket: Ticket) -> list[Trajectory]:
        return [trajectory for chunk in self.rollouts.wait(ticket) for trajectory in chunk]
