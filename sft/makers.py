"""From the settings of ``strokes-data`` to who makes the samples; models are loaded in the process that asks."""

from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from ..agents.load import checkpoint_of, load_policy
from ..envs.protocols import Policy
from .benchmark_prompts import normalised
from .build_settings import Sampler, Settings
from .multi_turn import ExactMultiTurn
from .sample import Maker, Subset


def make_maker(settings: Settings, subset: Subset, split: str) -> Maker:
    """The maker of one split of a subset.

    Raises:
        ValueError: A checkpoint or a file that is not there, settings that make no sense.
    """
    shared: dict[str, Any] = {
        "seed": settings.seed,
        "split": split,
        "num": settings.num(subset, split),
        "chunk_size": settings.chunk_size,
        "detour_rate": settings.multi_turn.detour_rate,
    }
    if subset is Subset.MULTI_TURN and settings.multi_turn.backend == "real":
        from . import kontext

        return kontext.make({**settings.multi_turn.real, **shared, "judge": settings.judge})
    shared["size"] = settings.size
    if subset is Subset.MULTI_TURN:
        return ExactMultiTurn(**shared)
    return _conflict(settings, shared) if subset is Subset.CONFLICT else _alignment(settings, split, shared)


def _conflict(settings: Settings, shared: Mapping[str, Any]) -> Maker:
    from .conflict import Conflict

    told = settings.conflict
    return Conflict(
        planner=load_sampler(settings.sampler) if told.source == "self-sampled" else None,
        source=told.source,
        temperatures=tuple(told.temperatures),
        tries=told.tries,
        **shared,
    )


def _alignment(settings: Settings, split: str, shared: Mapping[str, Any]) -> Maker:
    told = settings.alignment
    if told.source == "genref":
        return _genref(settings, split)
    from .alignment import Alignment

    sketcher = load_sampler(settings.sampler) if told.source == "self-sampled" else None
    return Alignment(sketcher=sketcher, source=told.source, tries=told.tries, **shared)


def _genref(settings: Settings, split: str) -> Maker:
    """GenRef's pairs, in its reflections' words or in those of a judge who looks at the pictures."""
    from ..rewards.critics import RemoteCritic
    from ..rewards.judge import JudgeClient
    from ..rewards.judge_settings import JudgeSettings
    from .genref import GenRefAlignment

    client = JudgeClient(JudgeSettings.read(settings.judge)) if settings.alignment.words == "judge" else None
    return GenRefAlignment(
        paths=settings.genref,
        critic=None if client is None else RemoteCritic(client),
        client=client,
        seed=settings.seed,
        split=split,
        num=settings.num(Subset.ALIGNMENT, split),
        chunk_size=settings.chunk_size,
        on_bad=settings.alignment.on_bad,
        excluded=_prompts(settings.excluded),
    )


def _prompts(paths: Sequence[Path]) -> frozenset[str]:
    """Normalised prompts of files with one a line.

    Raises:
        ValueError: A file that is missing or no text.
    """
    found = set[str]()
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"Expected alignment.excluded to be files of prompts, one a line: {error}.") from error
        found |= {normalised(line) for line in lines if line.strip()}
    return frozenset(found)


def load_sampler(sampler: Sampler) -> Policy:
    """Who self-samples."""
    return load_policy(sampler_policy(sampler), steps=sampler.steps, guidance=sampler.guidance)


def sampler_policy(sampler: Sampler) -> dict[str, Any]:
    """The policy of that name in ``configs/policy``, with its checkpoint."""
    policy = _policy(sampler.policy) | {"path": sampler.path}
    return policy | {"path": str(checkpoint_of(policy))}


def _policy(name: str) -> dict[str, Any]:
    """The composed content of ``configs/policy/<name>.yaml``."""
    from omegaconf import OmegaConf

    with as_file(files("strokes.configs").joinpath("policy", f"{name}.yaml")) as path:
        values: Any = OmegaConf.load(path)
    composed = OmegaConf.create()
    for base in values.pop("defaults", ()):
        composed.merge_with(OmegaConf.create({} if base == "_self_" else _policy(base)))
    composed.merge_with(values)
    return OmegaConf.to_container(composed)  # type: ignore[return-value]
