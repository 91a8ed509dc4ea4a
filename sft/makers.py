"""From the settings of ``strokes-data`` to who makes the samples; models are loaded in the process that asks."""

from collections.abc import Mapping
from importlib.resources import as_file, files
from typing import Any

from ..agents.load import checkpoint_of, load_policy
from ..envs.protocols import Policy
from .build_settings import Settings
from .multi_turn import ExactMultiTurn
from .sample import Maker, Subset


def make_maker(settings: Settings, subset: Subset, split: str) -> Maker:
    """The maker of one split of a subset.

    Raises:
        ValueError: A checkpoint or a file that is not there, settings that make no sense.
    """
    shared: dict[str, Any] = {"seed": settings.seed, "split": split}
    shared["detour_rate"] = settings.multi_turn["detour_rate"]
    shared |= {"num": settings.num(subset, split), "chunk_size": settings.chunk_size}
    if subset is Subset.MULTI_TURN and settings.multi_turn["backend"] == "real":
        from . import kontext

        return kontext.make({**settings.multi_turn["real"], **shared, "judge": settings.judge})
    shared["size"] = settings.size
    if subset is Subset.MULTI_TURN:
        return ExactMultiTurn(**shared)
    if subset is Subset.CONFLICT:
        from .conflict import Conflict

        told = settings.conflict
        samples = told["source"] == "self-sampled"
        return Conflict(
            planner=load_sampler(settings.sampler) if samples else None,
            source=told["source"],
            temperatures=tuple(told["temperatures"]),
            tries=told["tries"],
            **shared,
        )
    if settings.alignment["source"] == "genref":
        return _genref(settings, split)
    from .alignment import Alignment

    told = settings.alignment
    samples = told["source"] == "self-sampled"
    return Alignment(
        sketcher=load_sampler(settings.sampler) if samples else None,
        source=told["source"],
        tries=told["tries"],
        **shared,
    )


def _genref(settings: Settings, split: str) -> Maker:
    """GenRef's pairs, in its reflections' words or in those of a judge who looks at the pictures."""
    from ..rewards.critics import RemoteCritic
    from ..rewards.judge import JudgeClient
    from ..rewards.judge_settings import JudgeSettings
    from .genref import GenRefAlignment

    client = JudgeClient(JudgeSettings.read(settings.judge)) if settings.alignment["words"] == "judge" else None
    return GenRefAlignment(
        paths=settings.genref,
        critic=None if client is None else RemoteCritic(client),
        client=client,
        seed=settings.seed,
        split=split,
        num=settings.num(Subset.ALIGNMENT, split),
        chunk_size=settings.chunk_size,
        on_bad=settings.alignment["on_bad"],
    )


def load_sampler(sampler: Mapping[str, Any]) -> Policy:
    """Who self-samples."""
    return load_policy(sampler_policy(sampler), steps=sampler["steps"], guidance=sampler["guidance"])


def sampler_policy(sampler: Mapping[str, Any]) -> dict[str, Any]:
    """The policy of that name in ``configs/policy``, with its checkpoint."""
    policy = _policy(str(sampler["policy"])) | {"path": sampler["path"]}
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
