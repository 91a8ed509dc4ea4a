"""From an entry of a comparison to its policy: the settings, who judges its search, and whether it can be drawn."""

from collections.abc import Mapping
from typing import Any

from ..agents.adapter import read_adapter
from ..agents.load import checkpoint_of, load_policy, sampling_of, writing_of
from ..agents.random_legal import RandomLegal
from ..agents.searches import SEARCHES, painter_of, search_of
from ..envs.protocols import Watcher
from .compare_settings import Entry
from .evaluation_settings import Settings as Evaluation
from .judges import search_judge, search_verifier

ORACLE = "exact (oracle)"
SUFFIX = "-oracle"
"""Ends the names of searches that the truth judges."""
WRITERS = ("bagel", "bagel-tiny", "bagel-nano")


def policy_of(name: str, entry: Entry, shared: Mapping[str, Any], verifier: str | None = None) -> dict[str, Any]:
    """The settings of an entry's policy: those of its file, the weights and the sampling of all, and its own.

    Args:
        name: Of the entry.
        entry: What it says.
        shared: Who draws for all.
        verifier: Folder of a trained verifier's adapter, which searches then ask; ``None``: whom their files say.

    Raises:
        ValueError: No such file, or an option that it does not have.
    """
    given = dict(shared)
    if entry.policy is not None:
        given = _file(name, entry.policy)
        if "sampling" in given:  # a BAGEL
            own = {"name", "temperature"} if given["name"] in SEARCHES else {"name"}  # candidates have to differ
            given |= {key: value for key, value in shared.items() if key in given and key not in own}
    if "sampling" in given and entry.options.get("path") is None:
        given["path"] = str(checkpoint_of(shared))
    if verifier is not None and given["name"] in SEARCHES:
        given["verifier"] = {**given["verifier"], "name": "policy", "adapter": verifier}
    return _overlaid(given, entry.options, f"entries.{name}.options")


def _file(name: str, policy: str) -> dict[str, Any]:
    """``configs/policy/<policy>.yaml``, composed."""
    from hydra import compose as hydra_compose
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    known = GlobalHydra.instance().config_loader().get_group_options("policy")
    if policy not in known:
        raise ValueError(f"Expected entries.{name}.policy among {', '.join(known)}, got {policy!r}.")
    composed = hydra_compose("evaluate", [f"policy={policy}"])
    values: Any = OmegaConf.to_container(composed.policy, resolve=True)
    return dict(values)


def _overlaid(base: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    if unknown := sorted(set(given) - set(base)):
        raise ValueError(f"Expected {where} among {', '.join(base)}, got {', '.join(unknown)}.")
    inner = {key for key, value in given.items() if isinstance(value, Mapping) and isinstance(base[key], Mapping)}
    return {**base, **given, **{key: _overlaid(base[key], given[key], f"{where}.{key}") for key in inner}}


def searcher(policy: Mapping[str, Any], judge: Mapping[str, Any]) -> str:
    """Who judges in a policy's search; "": nobody, it does not search."""
    if policy["name"] not in SEARCHES:
        return ""
    name = policy.get("judge", "verifier")
    verifier = policy["verifier"]
    if name == "verifier":
        name = verifier["name"]
        if name == "policy" and verifier["adapter"] is not None:
            return "own understanding, trained"
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
