"""From the settings of a policy to the policy; models are imported only where they are asked for."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..envs.protocols import Policy
from .rollout import ScoreFn

NAMES = ("scripted", "random", "human", "bagel", "bagel-tiny", "one-shot", "best-of-n", "custom")
SHIPPED = Path(__file__).parent / "bagel" / "weights" / "tiny-v1"
"""The checkpoint that comes with the package."""


def load_policy(
    settings: Mapping[str, Any],
    *,
    steps: int | None = None,
    guidance: float | None = None,
    score_fn: ScoreFn | None = None,
) -> Policy:
    """The policy that ``configs/policy/<name>.yaml`` describes.

    Args:
        settings: That file's content: ``name`` and what this policy can be told.
        steps: Sampling steps per image, for policies that sample.
        guidance: Scale of the text guidance, for policies that sample.
        score_fn: Judge of a search.

    Raises:
        ValueError: An unknown name, a missing or damaged checkpoint, a target that is no policy.
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
    if name in ("bagel", "bagel-tiny", "one-shot"):
        return _bagel(settings, steps, guidance)
    if name == "best-of-n":
        from .search import BestOfN

        if score_fn is None or type(settings["n"]) is not int:
            raise ValueError(f"Expected a judge and policy.n, an integer, got {score_fn!r} and {settings['n']!r}.")
        return BestOfN(_bagel({**settings, "name": "one-shot"}, steps, guidance), settings["n"], score_fn)
    raise ValueError(f"Expected the name of a policy ({', '.join(NAMES)}), got {name!r}.")


def _bagel(settings: Mapping[str, Any], steps: int | None, guidance: float | None) -> Policy:
    """A BAGEL checkpoint that draws in strokes, or at once."""
    if steps is None or guidance is None:
        raise ValueError(f"Expected steps and guidance for {settings['name']}, got {steps} and {guidance}.")
    path = Path(settings["path"] or SHIPPED)
    if settings["path"] is None and settings["name"] == "bagel":
        raise ValueError("Expected policy.path, the folder of a BAGEL checkpoint, got none.")
    if not path.is_dir():
        raise ValueError(f"Expected policy.path to be the folder of a checkpoint, got {str(path)!r}.")
    import torch

    from .bagel.checkpoint import load
    from .bagel.generate import Sampling
    from .bagel.tokenizer import Tokenizer
    from .interleaved import Interleaved
    from .one_shot import OneShot

    dtype = getattr(torch, str(settings["dtype"]), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"Expected policy.dtype to be a dtype such as bfloat16, got {settings['dtype']!r}.")
    device = settings["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    sampling = Sampling(num_timesteps=steps + 1, cfg_text_scale=guidance, **_tupled(settings["sampling"]))
    model, tokenizer = load(path, dtype=dtype, device=device), Tokenizer.load(path)
    if settings["name"] == "one-shot":
        return OneShot(model, tokenizer, sampling)
    texts = {key: settings[key] for key in ("temperature", "max_tokens")}
    return Interleaved(model, tokenizer, sampling, **texts)


def _tupled(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


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
