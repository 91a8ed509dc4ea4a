"""From the settings of a policy to the policy; models are imported only where they are asked for."""

import importlib
from collections.abc import Mapping
from typing import Any

from ..envs.protocols import Policy

NAMES = ("scripted", "random", "human", "custom")


def load_policy(settings: Mapping[str, Any], *, steps: int | None = None, guidance: float | None = None) -> Policy:
    """The policy that ``configs/policy/<name>.yaml`` describes.

    Args:
        settings: That file's content: ``name`` and what this policy can be told.
        steps: Sampling steps per image, for policies that sample.
        guidance: Scale of the text guidance, for policies that sample.

    Raises:
        ValueError: An unknown name, a missing checkpoint, a target that is no policy.
    """
    name = settings.get("name")
    if name == "scripted":
        from .scripted import Habits, ScriptedPainter

        return ScriptedPainter(
            Habits(**{key: settings[key] for key in ("error_rate", "detour_rate", "plan_error_rate")})
        )
    if name == "random":
        from .random_legal import RandomLegal

        return RandomLegal()
    if name == "human":
        from .human import Human

        return Human()
    if name == "custom":
        return _custom(settings["target"])
    raise ValueError(f"Expected the name of a policy ({', '.join(NAMES)}), got {name!r}.")


def _custom(target: str | None) -> Policy:
    """A policy by its entry point."""
    module, _, attribute = (target or "").partition(":")
    if not attribute:
        raise ValueError(f"Expected policy.target as 'module:name', got {target!r}.")
    try:
        policy = getattr(importlib.import_module(module), attribute)()
    except (ModuleNotFoundError, AttributeError, TypeError) as error:
        raise ValueError(f"Expected policy.target to name a policy, got {target!r}: {error}.") from error
    if not isinstance(policy, Policy):
        raise ValueError(
            f"Expected policy.target {target!r} to have start, act and close, got {type(policy).__name__}."
        )
    return policy
