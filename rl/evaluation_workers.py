"""Drawing for an evaluation: chunks of one task, in this process or by Ray actors, with the same pictures from both."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack

from ..agents.pool import Pool, Resources, Task, start_ray, stop_ray
from ..agents.rollout import Episode, Rules, rollout
from ..agents.trajectory import Trajectory
from ..envs.protocols import Policy
from .equal_cost import at_equal_cost

Chunk = tuple[Sequence[Episode], str]
"""Episodes that are drawn as one batch, and their task."""


class EvaluationWorker:
    """One policy."""

    def __init__(
        self, make_policy: Callable[[], Policy], rules: Rules, threads: int | None, nums: Mapping[str, int] | None
    ) -> None:
        """Args:

        make_policy: Loads the policy; pickled where workers are processes.
        rules: Size, grammar.
        threads: Of torch while drawing; ``None``: as many as it takes.
        nums: Drawings per canvas of a search, by task; see ``equal_cost``.
        """
        self.policy, self.rules, self.threads, self.nums = make_policy(), rules, threads, nums

    def run(self, episodes: Sequence[Episode], task: str) -> list[Trajectory]:
        """Draw a chunk."""
        self.policy = at_equal_cost(self.policy, self.nums, task)
        return rollout(self.policy, episodes, rules=self.rules, threads=self.threads)


def draw(
    make_worker: Callable[[], EvaluationWorker],
    chunks: Sequence[Chunk],
    *,
    workers: int = 0,
    resources: Resources | None = None,
    address: str | None = None,
) -> Generator[list[Trajectory], None, None]:
    """Draw chunks; gives their trajectories in order, each as soon as it is there.

    Args:
        make_worker: Makes a worker in its own process; pickled.
        chunks: What to draw.
        workers: Ray actors; 0: this process does it.
        resources: Of each actor; as many processors as it has threads.
        address: Of a Ray cluster; ``None``: Ray is started on this machine.
    """
    if not workers:
        worker = make_worker()
        for episodes, task in chunks:
            yield worker.run(episodes, task)
        return
    with ExitStack() as opened:
        if start_ray(address):
            opened.callback(stop_ray)
        pool = Pool(make_worker, min(workers, len(chunks)), resources=resources)
        opened.callback(pool.close)
        tickets = [pool.submit([Task("run", chunk)]) for chunk in chunks]
        for ticket in tickets:
            (drawn,) = pool.wait(ticket)
            yield drawn
