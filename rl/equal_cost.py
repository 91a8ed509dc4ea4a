"""Searches at the cost of another policy: as many drawings per canvas as that one takes sampling steps.

What a search gives up on the way, or draws again in the end, is not foreseen: it spends what its ledger says.
"""

from collections.abc import Mapping

import numpy as np

from ..agents.search import SearchOfN
from ..envs.protocols import Policy
from .evaluation_folder import EvaluationFolder


def matched(folder: str, steps: int | None) -> dict[str, int]:
    """Drawings per canvas that cost what an evaluation's drawings cost, task by task.

    Args:
        folder: Of that evaluation.
        steps: Sampling steps of one image.

    Returns:
        The mean sampling steps of each of its tasks over ``steps``, rounded, at least 1.

    Raises:
        ValueError: There is no evaluation, or one of a policy that samples nothing.
    """
    spent: dict[str, list[int]] = {}
    for drawing in EvaluationFolder(folder).drawings():
        spent.setdefault(drawing.task, []).append(drawing.steps)
    if not steps or not any(map(any, spent.values())):
        raise ValueError(f"Expected policy.like to be an evaluation of a policy that samples, got {folder!r}.")
    return {task: max(1, round(float(np.mean(values)) / steps)) for task, values in spent.items()}


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
