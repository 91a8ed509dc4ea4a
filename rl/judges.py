"""From the settings of a run to who judges it; servers are called, and models loaded, when they are first asked."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..agents.command import check_choice
from ..agents.load import checkpoint_of
from ..agents.search import Outcome
from ..agents.searches import SEARCHES
from ..envs.protocols import Chat, Reward, Verifier
from ..rewards.critics import AnsweringCritic, Critic, RemoteCritic
from ..rewards.exact import ExactCritic
from ..rewards.judge import JudgeClient
from ..rewards.judge_settings import JudgeSettings
from ..rewards.judged import JudgedReward
from ..rewards.parm import AnsweringVerifier, ExactVerifier, ParmReward, RemoteVerifier
from ..rewards.sampled import Sampled
from ..rewards.scenes import SceneReward
from .reward_settings import CRITICS, RewardSettings

if TYPE_CHECKING:
    from ..agents.understanding import Understanding

SERVERS = {f"judge.{name}" for name in ("base_url", "api_key_env", "concurrency", "cache", "cache_mode", "record")}
SERVERS |= {f"judge.{name}" for name in ("timeout_s", "deadline_s", "retries", "backoff_s", "max_failures")}
SERVERS |= {f"judge.{name}" for name in ("prices", "max_cost", "replay")}
"""Settings of how a judge is reached, which its verdicts do not depend on; a run may go on with others."""
REMOTE = ("planner", "inspector")
"""Policies that a remote model takes part in."""


def make_reward(settings: RewardSettings, judge: Mapping[str, Any], policy: Mapping[str, Any]) -> Reward:
    """The judge of training.

    Args:
        settings: What is judged, and by whom.
        judge: The server of remote critics, see ``JudgeSettings``.
        policy: The checkpoint whose understanding judges, where that is asked for.
    """
    if settings.target is not None:
        return imported("reward.target", settings.target)()
    if settings.name == "parm":
        verifier = {"name": settings.critic, "path": None, "adapter": settings.adapter}
        return ParmReward(verifier=make_verifier({**policy, "verifier": verifier}, judge), process=settings.process)
    if settings.name == "judge":
        return JudgedReward(critic=make_critic(str(settings.critic), judge, policy), process=settings.process)
    return SceneReward(outcome=str(settings.outcome), process=settings.process)


def make_critic(name: str, judge: Mapping[str, Any], policy: Mapping[str, Any]) -> Critic:
    """The critic of a name: remote, exact or policy."""
    if name == "remote":
        return RemoteCritic(JudgeClient(JudgeSettings.read(judge)))
    if name == "policy":
        return AnsweringCritic(OwnUnderstanding(str(checkpoint_of(policy)), str(policy["dtype"]), policy["device"]))
    return ExactCritic()


def search_judge(policy: Mapping[str, Any], judge: Mapping[str, Any]) -> Reward:
    """Who chooses among best-of-n's drawings: the exact world (an oracle), the outcome's critic, or a verifier.

    Raises:
        ValueError: ``policy.judge`` names nobody.
    """
    name = policy.get("judge", "scene")
    check_choice("policy.judge", name, ("scene", "verifier", *CRITICS))
    if name == "scene":
        return SceneReward()
    if name == "verifier":
        return Outcome(make_verifier(policy, judge))
    return JudgedReward(critic=make_critic(name, judge, policy), is_outcome_only=True)


def search_verifier(policy: Mapping[str, Any], judge: Mapping[str, Any], seed: int = 0) -> Verifier | None:
    """Who is asked about the unfinished drawings of a search; ``None``: nobody has to be.

    Args:
        policy: The search.
        judge: The server of a remote verifier.
        seed: Decides the words of a verifier whose answers are sampled.

    Raises:
        ValueError: ``policy.verifier`` names nobody, or its ``sampled`` is neither true nor false.
    """
    if policy["name"] not in SEARCHES or policy["name"] == "best-of-n":
        return None
    verifier, is_sampled = make_verifier(policy, judge), policy["verifier"].get("sampled", False)
    if type(is_sampled) is not bool:
        raise ValueError(f"Expected policy.verifier.sampled to be true or false, got {is_sampled!r}.")
    return Sampled(verifier=verifier, seed=seed) if is_sampled else verifier


def make_verifier(policy: Mapping[str, Any], judge: Mapping[str, Any]) -> Verifier:
    """The verifier of a search: exact (an oracle), remote, or an understanding, with an adapter where there is one.

    Raises:
        ValueError: ``policy.verifier.name`` names nobody.
    """
    settings = policy["verifier"]
    check_choice("policy.verifier.name", settings["name"], CRITICS)
    if settings["name"] == "remote":
        return RemoteVerifier(JudgeClient(JudgeSettings.read(judge)))
    if settings["name"] == "exact":
        return ExactVerifier()
    path = str(settings["path"] or checkpoint_of(policy))
    adapter = None if settings["adapter"] is None else str(settings["adapter"])
    return AnsweringVerifier(OwnUnderstanding(path, str(policy["dtype"]), policy["device"], adapter))


def chat_of(policy: Mapping[str, Any], judge: Mapping[str, Any]) -> Chat | None:
    """Who plans or inspects from outside; ``None``: nobody has to."""
    return JudgeClient(JudgeSettings.read(judge)) if policy["name"] in REMOTE else None


@dataclass(frozen=True)
class OwnUnderstanding:
    """The understanding of a checkpoint, loaded in the process that first asks it."""

    path: str
    dtype: str
    device: str | None
    adapter: str | None = None
    """Folder of an adapter on top of it; ``None``: as it is."""

    def answer(
        self, images: Sequence[np.ndarray], questions: Sequence[str], prompts: Sequence[str] | None = None
    ) -> list[float | None]:
        """See ``Understanding.answer``."""
        return self._model.answer(images, questions, prompts)

    def num_read(
        self, images: Sequence[np.ndarray], questions: Sequence[str], prompts: Sequence[str] | None = None
    ) -> list[int]:
        """See ``Understanding.num_read``."""
        return self._model.num_read(images, questions, prompts)

    @cached_property
    def _model(self) -> "Understanding":
        import torch

        from ..agents.understanding import Understanding

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return Understanding.load(self.path, self.adapter, dtype=getattr(torch, self.dtype), device=device)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "dtype": self.dtype, "device": self.device, "adapter": self.adapter}


def imported(name: str, target: str) -> Any:
    """What ``module:name`` names.

    Raises:
        ValueError: There is no such thing.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"Expected {name} as 'module:name' of something there is, got {target!r}: {error}.") from error
