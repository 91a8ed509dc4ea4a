"""Credit: which emission of a trajectory is answerable for what, and by how much it beats its group.

A credit rule turns one trajectory into signals: emission k, a value, and a slot, the name under which values are
compared. ``advantages`` then asks, slot by slot and within each prompt's group, how far a trajectory's value is from
the mean of its group (GRPO, arXiv 2402.03300). With one slot for the outcome that is GRPO; with a slot for each stage
and its number, like is compared with like: the second sketch with second sketches, and a trajectory that has none
says nothing about them. A rule is any function:

    def my_rule(trajectory): return [Signal(k, "mine", value) for k, entry, reply in trajectory.own()]
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeGuard

import numpy as np

from ..agents.trajectory import Trajectory
from ..envs.stages import Stage
from ..envs.transcript import Ending

EPSILON = 1e-4
"""Beside a standard deviation (TRL, flow_grpo)."""
RIGHT = 1 - 1e-6
"""From this outcome on a canvas is right."""

Scale = Literal["group", "batch", "none"]


class Signal(NamedTuple):
    """What one emission is credited with."""

    emission: int
    """Number of the emission in the transcript."""
    slot: Hashable
    """Values of equal slots are compared."""
    value: float | None
    """``None`` or NaN: there is no verdict, which is not 0."""
    weight: float = 1.0
    """Factor on the advantage that comes of it."""


CreditRule = Callable[[Trajectory], Sequence[Signal]]


class Advantages(NamedTuple):
    """How far emissions are above or below their groups."""

    values: list[np.ndarray]
    """float32 (emissions,) of each trajectory; 0 where nothing was credited."""
    is_judged: list[np.ndarray]
    """bool (emissions,) of each: whether a verdict is behind the value; where none is, its 0 says nothing."""
    num_missing: int
    """Verdicts that were missing, counted once for each trajectory and slot."""
    share_masked: float
    """Emissions with a signal but no value, in [0, 1]: they are learnt nothing from."""
    share_idle: float
    """Groups in which no slot tells the members apart, in [0, 1]: they teach nothing."""


def advantages(
    signals: Sequence[Sequence[Signal]],
    num_emissions: Sequence[int],
    *,
    num_generations: int,
    scale: Scale = "group",
) -> Advantages:
    """Advantages of emissions.

    A trajectory has one vote in a slot, the mean of its signals there. From it the group's mean is taken; ``group``
    divides by the group's unbiased standard deviation + 1e-4, ``batch`` by that of all votes in the slot, ``none`` by
    nothing. For the slot of the outcome these are TRL's numbers, a lone valid verdict (advantage 0) included.

    Args:
        signals: Of each trajectory; consecutive runs of ``num_generations`` are groups.
        num_emissions: Of each trajectory.
        num_generations: Size of a group, at least 2.
        scale: See above.

    Raises:
        ValueError: Groups of one, a number of trajectories that is no multiple of the group, an emission there is not.
    """
    if num_generations < 2 or len(signals) % num_generations or len(signals) != len(num_emissions):
        raise ValueError(
            f"Expected trajectories in groups of at least 2, got {len(signals)} trajectories, {len(num_emissions)} "
            f"lengths and groups of {num_generations}."
        )
    votes, num_missing = _votes(signals)
    spreads = {slot: _spread(list(given.values())) for slot, given in votes.items()}
    values = [np.zeros(count, np.float32) for count in num_emissions]
    is_judged = [np.zeros(count, bool) for count in num_emissions]
    num_groups = len(signals) // num_generations
    is_idle = [True] * num_groups
    scaled: dict[tuple[int, Hashable], float] = {}
    for slot, given in votes.items():
        for group in range(num_groups):
            members = [i for i in range(group * num_generations, (group + 1) * num_generations) if i in given]
            found = [given[i] for i in members]
            spread = _spread(found)
            if len(members) < 2 or not spread > 1e-8:
                continue
            is_idle[group] = False
            by = 1.0 if scale == "none" else (spread if scale == "group" else spreads[slot]) + EPSILON
            mean = math.fsum(found) / len(found)
            scaled.update(((i, slot), (given[i] - mean) / by) for i in members)
    for i, each in enumerate(signals):
        for signal in each:
            if not 0 <= signal.emission < num_emissions[i]:
                raise ValueError(f"Expected signals for {num_emissions[i]} emissions, got one for {signal.emission}.")
            values[i][signal.emission] += signal.weight * scaled.get((i, signal.slot), 0.0)
            is_judged[i][signal.emission] |= _is_known(signal.value)
    known = [_is_known(signal.value) for each in signals for signal in each]
    share_masked = 1 - sum(known) / len(known) if known else 0.0
    return Advantages(values, is_judged, num_missing, share_masked, sum(is_idle) / max(1, num_groups))


def _votes(signals: Sequence[Sequence[Signal]]) -> tuple[dict[Hashable, dict[int, float]], int]:
    """By slot and trajectory, the mean of the verdicts; and how many (slot, trajectory) have none."""
    found: dict[tuple[Hashable, int], list[float]] = defaultdict(list)
    for i, each in enumerate(signals):
        for signal in each:
            found[signal.slot, i] += [float(signal.value)] if _is_known(signal.value) else []
    votes: dict[Hashable, dict[int, float]] = defaultdict(dict)
    for (slot, i), values in found.items():
        if values:
            votes[slot][i] = math.fsum(values) / len(values)
    return votes, sum(not values for values in found.values())


def _is_known(value: float | None) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)


def _spread(values: Sequence[float]) -> float:
    """Unbiased standard deviation; 0 of fewer than two."""
    return float(np.std(np.asarray(values, np.float64), ddof=1)) if len(values) > 1 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Every emission answers for the whole: the outcome, less what images cost, and a bonus for a right stop."""

    price_per_image: float = 0.0
    """In units of the outcome; a price buys fewer images."""
    stop_bonus: float = 0.0
    """For ending by STOP on a canvas that is right."""

    def __call__(self, trajectory: Trajectory) -> list[Signal]:
        """One slot for all."""
        value = self.value(trajectory)
        return [Signal(k, "outcome", value) for k, _, _ in trajectory.own()]

    def value(self, trajectory: Trajectory) -> float | None:
        """The return of a trajectory; ``None`` without a verdict."""
        total = None if trajectory.score is None else trajectory.score.total
        if total is None:
            return None
        images = sum(entry.stage.is_image for _, entry, _ in trajectory.own())
        stopped_right = trajectory.transcript.ended is Ending.STOP and total >= RIGHT
        return total - self.price_per_image * images + self.stop_bonus * stopped_right


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardToGo:
    """An emission answers for what it and later ones earn and for the outcome; compared by stage and number.

    Where a verdict is missing, what came before it has no value either: what it led to is not known.
    """

    outcome: Outcome = Outcome()
    """What comes at the end."""
    discount: float = 1.0
    """Of what later emissions earn."""

    def __call__(self, trajectory: Trajectory) -> list[Signal]:
        """One slot for each (stage, how many of it came before)."""
        end, score = self.outcome.value(trajectory), trajectory.score
        signals, later, is_known = [], 0.0, end is not None
        slots = slots_of(trajectory)
        for k in reversed(range(len(trajectory.replies))):
            if score is not None:
                later = score.earned(k) + self.discount * later
                is_known = is_known and not score.is_missing(k)
            if k in slots:
                signals.append(Signal(k, slots[k], end + later if end is not None and is_known else None))
        return signals[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """An image answers for how much better it left the canvas, and so do the words that asked for it (R3).

    A stop answers for stopping on a right canvas: 1 there, else 0 (R3's reward of a correct "no further edit").
    ``Trajectory.progress`` has to be filled (``rollout(is_graded_throughout=True)``).
    """

    def __call__(self, trajectory: Trajectory) -> list[Signal]:
        """One slot for each (stage, how many of it came before)."""
        slots, progress = slots_of(trajectory), trajectory.progress
        if not progress and any(entry.stage.is_image for _, entry, _ in trajectory.own()):
            raise ValueError(
                "Expected trajectories graded throughout, got no progress; see rollout(is_graded_throughout)."
            )
        signals, before, asking = [], 0.0, []
        for k, entry, _ in trajectory.own():
            after = progress[k] if progress else None
            if entry.stage is Stage.STOP:
                signals.append(Signal(k, slots[k], None if after is None else float(after >= RIGHT)))
            elif not entry.stage.is_image:
                asking.append(k)
            else:
                gain = None if after is None else after - before
                signals += [Signal(j, slots[j], gain) for j in (*asking, k)]
                before, asking = before if after is None else after, []
        return signals


class Combined:
    """Several rules at once, each compared for itself; their advantages add up."""

    def __init__(self, weights: Mapping[str, float], **rules: CreditRule) -> None:
        """Args:

        weights: Factor on the advantages of each rule, by name.
        rules: By name.
        """
        if weights.keys() != rules.keys():
            raise ValueError(f"Expected a weight for each of {', '.join(rules)}, got {', '.join(weights)}.")
        self.weights, self.rules = dict(weights), rules

    def __call__(self, trajectory: Trajectory) -> list[Signal]:
        """The signals of all, in slots of their own."""
        return [
            Signal(signal.emission, (name, signal.slot), signal.value, self.weights[name] * signal.weight)
            for name, rule in self.rules.items()
            for signal in rule(trajectory)
        ]


def slots_of(trajectory: Trajectory) -> dict[int, tuple[str, int]]:
    """Of each own emission its stage and how many own ones of that stage came before."""
    seen: dict[Stage, int] = defaultdict(int)
    slots = {}
    for k, entry, _ in trajectory.own():
        slots[k] = (entry.stage.name, seen[entry.stage])
        seen[entry.stage] += 1
    return slots
