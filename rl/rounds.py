"""Rounds of preference learning: drawings of the weights of the moment, judged and paired, kept in the run's folder.

Plain (offline) DPO is one round, drawn by the start. Iterative DPO draws anew with what the last round has learnt and
goes on from there. PARM's iterative run starts from the first one's weights, too; which reference it is measured from
its released code leaves open (the reference model is made in one branch of two). Here the reference of every round is
the start, so that rounds cannot drift away step by step, and the optimizer and its schedule go on over all of them.

A round is drawn generation by generation (``rl.generations``), each kept under its number when it is judged, so a run
that was killed draws none twice. What is kept are the pairs, with everything that they are replayed from.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..agents.trajectory import Trajectory
from .buffer import load_buffer, save_buffer
from .generations import Generations
from .preference import Pair, Paired, pairs_of
from .verdicts import check_missing


class Rounds:
    """The pairs of a run."""

    def __init__(
        self,
        folder: Path,
        generations: Generations,
        value: Callable[[Trajectory], float | None],
        *,
        num_rounds: int,
        epochs: int,
        max_missing: float = 1.0,
    ) -> None:
        """Args:

        folder: Where pairs are kept.
        generations: Draws; all of them together are the rounds, each the same number.
        value: The judge's verdict on a drawing, see ``pairs_of``.
        num_rounds: How many.
        epochs: Passes over the pairs of a round.
        max_missing: Share of a generation's drawings that may be without a verdict.
        """
        if generations.num % num_rounds:
            raise ValueError(
                f"Expected steps, generations of drawings, to be a multiple of preference.rounds ({num_rounds}), got "
                f"{generations.num}."
            )
        self.folder, self.generations, self.value = folder, generations, value
        self.epochs, self.max_missing = epochs, max_missing
        self.per_round = generations.num // num_rounds
        """Generations of a round, and optimizer steps of a pass over it."""
        self._at: tuple[int, Paired] | None = None

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.generations.num * self.epochs

    def begins(self, step: int) -> bool:
        """Whether a round begins with this optimizer step."""
        return step % (self.per_round * self.epochs) == 0

    def batch(self, step: int) -> tuple[list[Pair], int]:
        """The pairs of an optimizer step, at least one, and the number of the pass over the round's pairs.

        A pass shares them out over as many steps as the round has generations, shuffled; asked for the first step of
        a round, they are drawn, with the weights of the moment.
        """
        number, within = divmod(step, self.per_round * self.epochs)
        epoch, part = divmod(within, self.per_round)
        pairs = self.round(number).pairs
        order = np.random.default_rng([self.generations.seed, 0xD0, number, epoch]).permutation(len(pairs))
        chosen = np.array_split(order, self.per_round)[part]
        places = chosen if len(chosen) else order[part % len(order) :][:1]
        return [pairs[k] for k in places], epoch

    def round(self, number: int) -> Paired:
        """All pairs of a round, and what else its drawings came to.

        Raises:
            ValueError: There is none.
            JudgeUnavailable: Too many drawings of a generation got no verdict.
        """
        if self._at is None or self._at[0] != number:
            first = number * self.per_round
            self._at = number, _together([self._generation(k) for k in range(first, first + self.per_round)])
        paired = self._at[1]
        if not paired.pairs:
            raise ValueError(
                f"Expected drawings of one prompt that the judge prefers one of, got {paired.num_equal} prompts whose "
                f"drawings are all judged alike and {paired.num_missing} with too few verdicts, and no pair; set a "
                "larger group, a reward with more grades (reward.outcome=soft), a higher text.temperature, or tasks "
                "that are neither too easy nor too hard, and another out."
            )
        return paired

    def _generation(self, number: int) -> Paired:
        """The pairs of a generation: kept, or drawn now."""
        folder = self.folder / str(number)
        if (folder / "state.json").exists():
            position, batches, *_ = load_buffer(folder)
            drawn = [each for batch in batches or () for each in batch["trajectories"]]
            pairs = [Pair(*pair) for pair in zip(drawn[::2], drawn[1::2], strict=True)]
            reward = position["reward"]
            return Paired(pairs, position["equal"], position["missing"], math.nan if reward is None else reward)
        self.generations.next = number
        drawn, size = self.generations.draw_next(), self.generations.group
        self._check(drawn)
        paired = pairs_of([drawn[k : k + size] for k in range(0, len(drawn), size)], self.value)
        reward = None if math.isnan(paired.reward) else paired.reward
        position = {"equal": paired.num_equal, "missing": paired.num_missing, "reward": reward}
        save_buffer(folder, position, [{"trajectories": [each for pair in paired.pairs for each in pair]}], [])
        return paired

    def _check(self, drawn: list[Trajectory]) -> None:
        share = sum(self.value(each) is None for each in drawn) / len(drawn)
        check_missing(share, self.max_missing, "drawings")


def _together(parts: list[Paired]) -> Paired:
    rewards = [part.reward for part in parts if not math.isnan(part.reward)]
    return Paired(
        [pair for part in parts for pair in part.pairs],
        sum(part.num_equal for part in parts),
        sum(part.num_missing for part in parts),
        float(np.mean(rewards)) if rewards else math.nan,
    )
