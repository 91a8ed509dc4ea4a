"""From the settings of a policy to the policy; models are imported only where they are asked for."""

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ..envs.files import file_sha256
from ..envs.protocols import Chat, Policy, Verifier
from .command import NUMBER, check_choice, check_number
from .rollout import ScoreFn
from .searches import SEARCHES, painter_of, search_of

if TYPE_CHECKING:
    import torch

    from .bagel.model import Bagel
    from .bagel.noise import Noise
    from .bagel.sample import Sampling

NAMES = (
    *("scripted", "random", "human", "bagel", "bagel-tiny", "bagel-nano", "one-shot", *SEARCHES),
    *("planner", "inspector", "flux", "custom"),
)
SHIPPED = Path(__file__).parent / "bagel" / "weights" / "tiny-v2"
"""The checkpoint that comes with the package, and is drawn with where none is named."""
NANO = SHIPPED.with_name("nano-v2")
"""The smaller one, a start for reinforcement learning in minutes."""


def load_policy(
    settings: Mapping[str, Any],
    *,
    steps: int | None = None,
    guidance: float | None = None,
    score_fn: ScoreFn | None = None,
    verifier: Verifier | None = None,
    chat: Chat | None = None,
    noise: "Noise | None" = None,
    is_recorded: bool = False,
) -> Policy:
    """The policy that ``configs/policy/<name>.yaml`` describes.

    It can be called in another process: ``partial(load_policy, settings, …)`` is what rollout workers are given.

    Args:
        settings: That file's content: ``name`` and what this policy can be told.
        steps: Sampling steps per image, for policies that sample.
        guidance: Scale of the text guidance, for policies that sample.
        score_fn: Judge of best-of-n.
        verifier: Of the other searches.
        chat: The remote model of a planner or an inspector.
        noise: Stochastic steps of images, for learning; for policies that draw in strokes.
        is_recorded: Whether replies carry what learning needs; for policies that draw in strokes.

    Raises:
        ValueError: An unknown name, a missing or damaged checkpoint, an adapter of another one, a value of the wrong
            type, a target that is no policy.
    """
    name = settings.get("name")
    if name in ("scripted", "random", "human", "custom"):
        return _weightless(settings)
    if name in ("bagel", "bagel-tiny", "bagel-nano", "one-shot"):
        return _bagel(settings, steps, guidance, noise, is_recorded)
    if name == "flux":
        return _flux(settings, steps, guidance)
    if name in ("planner", "inspector"):
        return _remote(settings, steps, guidance, chat)
    if name in SEARCHES:
        painter = _bagel(painter_of(settings), steps, guidance)
        return search_of(settings, painter, steps or 0, score_fn, verifier)
    raise ValueError(f"Expected the name of a policy ({', '.join(NAMES)}), got {name!r}.")


def _weightless(settings: Mapping[str, Any]) -> Policy:
    """A policy without a model."""
    name = settings["name"]
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
    return _custom(settings["target"])


def sampling_of(settings: Mapping[str, Any], steps: Any, guidance: Any, noise: "Noise | None" = None) -> "Sampling":
    """How the policy of these settings samples images.

    Raises:
        ValueError: A value of the wrong type or out of its range, or one that nobody knows.
    """
    from .bagel.flow import Renorm
    from .bagel.sample import Sampling

    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["sampling"].items()}
    least = {"timestep_shift": 0, "cfg_img_scale": 0, "cfg_renorm_min": 0}
    known = {*least, "cfg_interval", "cfg_renorm_type"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"Expected policy.sampling to set {', '.join(sorted(known))}, got {', '.join(unknown)}.")
    check_number("steps", steps, 1)
    check_number("guidance", guidance, 0, NUMBER)
    for name in least.keys() & given.keys():
        check_number(f"policy.sampling.{name}", given[name], least[name], NUMBER)
    interval = given.get("cfg_interval", (0.0, 1.0))
    if not isinstance(interval, tuple) or len(interval) != 2 or any(type(end) not in NUMBER for end in interval):
        raise ValueError(
            f"Expected policy.sampling.cfg_interval to be two numbers such as [0.4, 1.0], got {interval!r}."
        )
    if "cfg_renorm_type" in given:
        check_choice("policy.sampling.cfg_renorm_type", given["cfg_renorm_type"], get_args(Renorm))
    return Sampling(num_timesteps=steps + 1, cfg_text_scale=guidance, noise=noise, **given)


def writing_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """How the policy of these settings writes: its temperature, and the most tokens of a text.

    Raises:
        ValueError: A value of the wrong type or out of its range.
    """
    check_number("policy.temperature", settings["temperature"], 0, NUMBER)
    check_number("policy.max_tokens", settings["max_tokens"], 1)
    return {key: settings[key] for key in ("temperature", "max_tokens")}


def _bagel(
    settings: Mapping[str, Any],
    steps: int | None,
    guidance: float | None,
    noise: "Noise | None" = None,
    is_recorded: bool = False,
) -> Policy:
    """A BAGEL checkpoint that draws in strokes, or at once."""
    if steps is None or guidance is None:
        raise ValueError(f"Expected steps and guidance for {settings['name']}, got {steps} and {guidance}.")
    checkpoint_of(settings)  # before anything heavy is loaded
    sampling = sampling_of(settings, steps, guidance, noise)
    from .bagel.tokenizer import Tokenizer
    from .interleaved import Interleaved
    from .one_shot import OneShot

    if settings["name"] == "one-shot":
        model = _model(settings)
        return OneShot(model, Tokenizer.load(checkpoint_of(settings)), sampling)
    texts = writing_of(settings)
    model = _model(settings)
    return Interleaved(model, Tokenizer.load(checkpoint_of(settings)), sampling, is_recorded=is_recorded, **texts)


def _remote(settings: Mapping[str, Any], steps: int | None, guidance: float | None, chat: Chat | None) -> Policy:
    """A BAGEL checkpoint that draws, and a remote model that plans or inspects."""
    from .remote import Inspector, Planner

    limit = "max_steps" if settings["name"] == "planner" else "max_edits"
    check_number(f"policy.{limit}", settings[limit], 1)
    check_number("policy.attempts", settings["attempts"], 1)
    if chat is None:
        raise ValueError(f"Expected a remote model for policy={settings['name']}, got none; say which under `judge`.")
    options = {limit: settings[limit], "attempts": settings["attempts"]}
    painter = _painter(settings, steps, guidance)
    return Planner(painter, chat, **options) if settings["name"] == "planner" else Inspector(painter, chat, **options)


def _painter(settings: Mapping[str, Any], steps: int | None, guidance: float | None) -> Policy:
    """Who draws beside a remote model."""
    if settings["painter"] == "strokes":
        return _bagel({**settings, "name": "bagel-tiny"}, steps, guidance)
    if settings["painter"] == "flux-kontext":
        return _flux(settings, steps, guidance)
    if settings["painter"] != "one-shot":
        raise ValueError(
            f"Expected policy.painter to be strokes, one-shot or flux-kontext, got {settings['painter']!r}."
        )
    from .bagel.tokenizer import Tokenizer
    from .editor import Editor

    editing = {"sampling": {**settings["sampling"], **settings["editing"]}}
    sampled = sampling_of(settings, steps, guidance), sampling_of(editing, steps, guidance)
    return Editor(_model(settings), Tokenizer.load(checkpoint_of(settings)), *sampled)


def _flux(settings: Mapping[str, Any], steps: int | None, guidance: float | None) -> Policy:
    """A FLUX that draws the prompt at once, or one that paints and edits beside a remote model."""
    from .diffusers import Flux, FluxEditor, FluxOneShot, Kontext

    check_number("steps", steps, 1)
    check_number("guidance", guidance, 0, NUMBER)
    path, (dtype, device) = checkpoint_of(settings), placing(settings)
    options: dict[str, Any] = {"dtype": dtype, "device": device, "steps": steps, "guidance": guidance}
    if settings["name"] == "flux":
        return FluxOneShot(Flux.load(path, **options))
    return FluxEditor(Kontext.load(path, **options))


def checkpoint_of(settings: Mapping[str, Any]) -> Path:
    """Folder of the checkpoint that these settings name, or that ships.

    Raises:
        ValueError: There is no such folder, or none is named where nothing ships.
    """
    if settings["path"] is None and settings["name"] == "bagel":
        raise ValueError("Expected policy.path, the folder of a BAGEL checkpoint, got none.")
    if settings["path"] is None and (settings["name"] == "flux" or settings.get("painter") == "flux-kontext"):
        raise ValueError("Expected policy.path, the folder of a FLUX pipeline as `hf download` leaves it, got none.")
    path = Path(str(settings["path"] or (NANO if settings["name"] == "bagel-nano" else SHIPPED)))
    if not path.is_dir():
        raise ValueError(f"Expected policy.path to be the folder of a checkpoint, got {str(path)!r}.")
    return path


def fingerprint(path: str | Path) -> str:
    """SHA-256 over the names and contents of the weights of a checkpoint folder and its sub-folders, hexadecimal."""
    total = hashlib.sha256()
    for file in sorted(Path(path).rglob("*.safetensors")):
        total.update(f"{file.relative_to(path).as_posix()} {file_sha256(file)}\n".encode())
    return total.hexdigest()


def _model(settings: Mapping[str, Any]) -> "Bagel":
    """The weights of a checkpoint, and of the adapter on top of it where there is one."""
    from .adapter import check_fit, merge, read_adapter
    from .bagel.checkpoint import load

    path, (dtype, device) = checkpoint_of(settings), placing(settings)
    adapter = read_adapter(str(settings["adapter"])) if settings.get("adapter") else None
    model = load(path, dtype=dtype, device=device)
    if adapter is not None:
        check_fit(model, adapter)
        merge(model, adapter)
    return model


def placing(settings: Mapping[str, Any], group: str = "policy") -> "tuple[torch.dtype, str]":
    """The dtype and the device of a model's weights; messages call the settings those of ``group``."""
    import torch

    dtype = getattr(torch, str(settings["dtype"]), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"Expected {group}.dtype to be a dtype such as bfloat16, got {settings['dtype']!r}.")
    device = settings["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # no such device, or torch was built without it
        raise ValueError(f"Expected {group}.device to be a device of this machine, got {device!r}: {error}.") from error
    return dtype, device


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
