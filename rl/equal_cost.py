"""Searches at the cost of another policy: as many drawings per canvas as that one takes sampling steps.

What one drawing costs is that of one image, or what another evaluation tells: of the policy that draws for the search,
where a drawing has as many images as it likes, or of the same search with some n, where candidates are given up on the
way. What is drawn again in the end is not foreseen: a search spends what its ledger says.
"""

from collections.abc import Mapping

import numpy as np

from ..agents.search import SearchOfN
from ..envs.protocols import Policy
from .evaluation_folder import EvaluationFolder


def matched(like: str, unit: str | None, steps: int | None) -> dict[str, int]:
    """Drawings per canvas that cost what an evaluation's drawings cost, task by task.

    Args:
        like: Folder of that evaluation.
        unit: Folder of the evaluation that tells what one drawing costs; ``None``: one image.
        steps: Sampling steps of one image.

    Returns:
        The mean sampling steps of each task of the one over those of the other, rounded, at least 1.

    Raises:
        ValueError: There is no evaluation, one of a policy that samples nothing, or one of other tasks.
    """
    targets = _spent("like", like)
    costs = _each(unit) if unit is not None else dict.fromkeys(targets, float(steps or 0))
    if missing := ", ".join(sorted(set(targets) - set(costs))):
        raise ValueError(f"Expected policy.unit to be an evaluation that drew {missing}, got {unit!r}.")
    if not all(costs[task] for task in targets):
        raise ValueError(f"Expected policy.like with a policy that samples, got {unit or steps!r} as what it draws.")
    return {task: max(1, round(target / costs[task])) for task, target in targets.items()}


def _spent(name: str, folder: str) -> dict[str, float]:
    """Mean sampling steps of each task."""
    spent: dict[str, list[int]] = {}
    for drawing in EvaluationFolder(folder).drawings():
        spent.setdefault(drawing.task, []).append(drawing.steps)
    if not any(map(any, spent.values())):
        raise ValueError(f"Expected policy.{name} to be an evaluation of a policy that samples, got {folder!r}.")
    return {task: float(np.mean(values)) for task, values in spent.items()}


def _each(folder: str) -> dict[str, float]:
    """Mean sampling steps of each task, of a search for each of its drawings."""
    settings = EvaluationFolder(folder).settings()
    nums = settings.get("drawings_per_canvas") or {}
    n = settings["policy"].get("n", 1)
    return {task: spent / nums.get(task, n) for task, spent in _spent("unit", folder).items()}


def at_equal_cost(policy: Policy, nums: Mapping[str, int] | None, task: str) -> Policy:
    """The policy for a task: the same, or a search with as many drawings as ``nums`` says.

    Raises:
        ValueError: The task is not among ``nums``.
    """
    if nums is None:
        return policy
    assert isinstance(policy, SearchOfN), "policy.like is a setting of searches with n"
    if task not in nums:
        raise ValueError(f"Expected policy.like to be an evaluation that drew {task}, got {', '.join(nums)}.")
    return policy.sized(nums[task])
