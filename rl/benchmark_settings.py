"""From the settings of an evaluation to its benchmark."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..envs.scenes.render import SHAPES
from ..rewards.geneval import Detector, Rule
from ..rewards.geneval_detectors import MiniWorldDetector
from ..rewards.geneval_http import HttpDetector
from ..rewards.geneval_mask2former import Mask2FormerClip
from ..rewards.geneval_prompts import geneval_prompts, read_metadata
from ..rewards.judge import JudgeClient
from ..rewards.judge_settings import JudgeSettings
from ..rewards.knowledge import KnowledgeJudge
from ..rewards.question import Judge
from ..rewards.wise import PROTOCOLS, read_instructions, read_wise
from .benchmarks import Benchmark, Scenes, Wise, knowledge
from .geneval_benchmark import Geneval

NAMES = ("scenes", "knowledge", "geneval", "wise")
FOREIGN = ("bagel", "custom", "human")
"""Policies that may know GenEval's objects; the others that come with the package know eight shapes."""
STRANGE = (
    "**These scores mean nothing**: who drew them knows eight shapes and none of GenEval's objects. They show that the "
    "benchmark runs from end to end."
)


def make_benchmark(
    settings: Mapping[str, Any],
    split: str,
    limit: int | None,
    *,
    judge: Mapping[str, Any],
    detector: Mapping[str, Any],
    policy: Mapping[str, Any],
) -> Benchmark:
    """The benchmark that ``configs/benchmark/<name>.yaml`` describes.

    Args:
        settings: That file's content.
        split: Of the mini-world's own benchmarks.
        limit: Prompts of each task at most.
        judge: The server of a remote judge, see ``JudgeSettings``.
        detector: GenEval's, see ``configs/detector``.
        policy: Who draws: scores of a model that cannot draw what a benchmark asks for are said to mean nothing.

    Raises:
        ValueError: A benchmark, protocol or judge that there is not, or prompts that cannot be read.
    """
    name = settings["name"]
    if name == "scenes":
        return Scenes(split, limit)
    if name == "knowledge":
        return knowledge(split, limit, _judge(str(settings["judge"]), judge))
    if name == "wise":
        return _wise(settings, limit, judge)
    if name == "geneval":
        path = settings["metadata"]
        entries = geneval_prompts() if path is None else read_metadata(str(path))
        is_foreign = not {clause["class"] for entry in entries for clause in entry["include"]} <= set(SHAPES)
        is_stranger = is_foreign and policy["name"] not in FOREIGN and not policy.get("path")
        return Geneval(entries, make_detector(detector), limit, note=STRANGE if is_stranger else "")
    raise ValueError(f"Expected benchmark.name among {', '.join(NAMES)}, got {name!r}.")


def make_detector(settings: Mapping[str, Any]) -> Detector | None:
    """The detector that ``configs/detector/<name>.yaml`` describes; ``None``: nobody looks.

    Raises:
        ValueError: A detector that there is not.
    """
    name = settings["name"]
    if name == "none":
        return None
    if unknown := set(settings["rule"] or ()) - {field.name for field in fields(Rule)}:
        raise ValueError(f"Expected detector.rule with names of rewards/geneval.py's Rule, got {', '.join(unknown)}.")
    rule = Rule(**settings["rule"]) if settings["rule"] else None
    if name == "miniworld":
        return MiniWorldDetector() if rule is None else MiniWorldDetector(rule=rule)
    if name == "http":
        return HttpDetector(str(settings["url"]), rule=rule)
    if name == "mask2former":
        checkpoints = str(settings["segmenter"]), str(settings["clip"])
        return Mask2FormerClip.load(*checkpoints, device=settings["device"], rule=rule)
    raise ValueError(f"Expected detector.name among none, miniworld, mask2former, http, got {name!r}.")


def _wise(settings: Mapping[str, Any], limit: int | None, judge: Mapping[str, Any]) -> Wise:
    if settings["protocol"] not in PROTOCOLS:
        raise ValueError(f"Expected benchmark.protocol among {', '.join(PROTOCOLS)}, got {settings['protocol']!r}.")
    if settings["path"] is None:
        raise ValueError(
            "Expected benchmark.path, WISE's prompts as downloaded from PKU-YuanGroup/WISE (they have no licence to be "
            "shipped with), got none; benchmark=knowledge needs none."
        )
    protocol = PROTOCOLS[settings["protocol"]]
    official = None if settings["instructions"] is None else read_instructions(str(settings["instructions"]))
    items, counts = [], dict[str, int]()
    for item in read_wise(str(settings["path"]), protocol=protocol):
        counts[item.category] = counts.get(item.category, 0) + 1
        items += [item] if limit is None or counts[item.category] <= limit else []
    return Wise(items, protocol, _judge("remote", judge), protocol.question(str(settings["reader"]), official))


def _judge(name: str, settings: Mapping[str, Any]) -> Judge:
    if name not in ("exact", "remote"):
        raise ValueError(f"Expected benchmark.judge to be exact or remote, got {name!r}.")
    return KnowledgeJudge() if name == "exact" else JudgeClient(JudgeSettings.read(settings))
