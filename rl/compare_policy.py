"""The policy of an entry of a comparison: who judges its search, what it is called, and whether it can be drawn."""

from collections.abc import Mapping
from typing import Any

from ..agents.adapter import read_adapter
from ..agents.load import checkpoint_of, load_policy, sampling_of, writing_of
from ..agents.random_legal import RandomLegal
from ..agents.searches import SEARCHES, painter_of, search_of
from ..envs.protocols import Watcher
from .evaluation_settings import Settings as Evaluation
from .judges import search_judge, search_verifier

ORACLE, TRAINED = "exact (oracle)", "own understanding, trained"
SUFFIX = "-oracle"
"""Ends the names of searches that the truth judges."""
WRITERS = ("bagel", "bagel-tiny", "bagel-nano")


def searcher(policy: Mapping[str, Any], judge: Mapping[str, Any]) -> str:
    """Who judges in a policy's search; "": nobody, it does not search."""
    if policy["name"] not in SEARCHES:
        return ""
    name = policy.get("judge", "verifier")
    verifier = policy["verifier"]
    if name == "verifier":
        name = verifier["name"]
        if name == "policy" and verifier["adapter"] is not None:
            return TRAINED
    return {"policy": "own understanding", "remote": str(judge["model"])}.get(name, ORACLE)


def shown(name: str, searcher: str) -> str:
    """The name of an entry in tables and folders, which tells oracles."""
    return name if searcher != ORACLE or name.endswith(SUFFIX) else f"{name}{SUFFIX}"


def check(evaluation: Evaluation) -> None:
    """``ValueError`` if anything is wrong with the policy of an evaluation; no weights are loaded."""
    policy = evaluation.policy
    _check_weights(policy)
    if policy["name"] == "scripted":
        load_policy(policy)
    if policy["name"] in SEARCHES:
        _check_search(evaluation)
    elif policy["name"] in WRITERS:
        writing_of(policy)
    if "sampling" in policy:
        sampling_of(policy, evaluation.steps, evaluation.guidance)


def _check_search(evaluation: Evaluation) -> None:
    policy, judge = evaluation.policy, evaluation.judge
    if painter_of(policy)["name"] in WRITERS:
        writing_of(policy)
    asked = search_judge(policy, judge), search_verifier(policy, judge)
    search_of(policy, _Unloaded(), evaluation.steps or 0, *asked)


class _Unloaded(RandomLegal):
    """Who draws for a search, before the weights are there."""

    watcher: Watcher | None = None


def _check_weights(policy: Mapping[str, Any]) -> None:
    """``ValueError`` unless all weights that a policy names are there."""
    asked = policy.get("verifier") or {}
    if "path" in policy:
        checkpoint_of(policy)
    if asked.get("path") is not None:
        checkpoint_of(asked)
    for adapter in (policy.get("adapter"), asked.get("adapter")):
        if adapter is not None:
            read_adapter(adapter)
