"""The settings of ``strokes-evaluate``: ``configs/evaluate.yaml`` as a dataclass, checked where it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..agents.command import check_number
from ..agents.searches import SEARCHES


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``configs/evaluate.yaml``, composed."""

    policy: Mapping[str, Any]
    benchmark: Mapping[str, Any]
    split: str
    limit: int | None
    """Tasks per tag; ``None``: all."""
    num_samples: int
    """Drawings of each task."""
    seed: int
    """Decides all noise, together with the prompt and the number of the drawing."""
    batch: int
    """Drawings of a chunk: what advances together, and what is drawn again after a kill."""
    threads: int | None
    """Threads of torch; ``None``: as many as it takes. Equal results need equal numbers."""
    steps: int | None
    """Sampling steps per image; ``None``: the policy samples no images."""
    guidance: float | None
    """Scale of the text guidance; ``None``: the policy has none."""
    size: int
    """Side of the canvas in pixels."""
    heeds_refine: bool
    """Whether inspections may ask for corrections; if not, drawings are made without the inspect loop."""
    out: str
    detector: Mapping[str, Any]
    """Who sees what is on a picture, for GenEval."""
    judge: Mapping[str, Any]
    """The server of remote judges, planners and inspectors, see ``rewards.judge_settings``."""
    workers: int
    """Ray actors that draw; 0: this process does."""
    gpus: float
    """Of each worker."""
    address: str | None
    """Of a Ray cluster; ``None``: Ray is started on this machine."""
    compare: Sequence[str] | None
    """Folders of two evaluations to compare; nothing is drawn then."""

    def __post_init__(self) -> None:
        for name, least in (("num_samples", 1), ("seed", 0), ("batch", 1), ("size", 16), ("workers", 0)):
            check_number(name, getattr(self, name), least)
        if self.size % 16:
            raise ValueError(f"Expected size to be a multiple of 16, got {self.size}.")
        check_number("limit", self.limit, 1, (int, type(None)))
        check_number("threads", self.threads, 1, (int, type(None)))
        check_number("steps", self.steps, 1, (int, type(None)))
        check_number("guidance", self.guidance, 0, (int, float, type(None)))
        check_number("gpus", self.gpus, 0, (int, float))
        if self.workers and self.threads is None:
            raise ValueError("Expected threads with workers, got none; equal results need equal numbers of them.")
        if self.detector["name"] != "none" and self.benchmark["name"] != "geneval":
            raise ValueError(
                f"Expected detector={self.detector['name']} with benchmark=geneval alone, got {self.benchmark['name']}."
            )
        if type(self.heeds_refine) is not bool:
            raise ValueError(f"Expected heeds_refine to be true or false, got {self.heeds_refine!r}.")
        if not self.heeds_refine and self.policy["name"] in SEARCHES:
            raise ValueError(f"Expected heeds_refine=true with a search, got policy={self.policy['name']}.")
        if self.compare is not None and (isinstance(self.compare, str) or len(self.compare) != 2):
            raise ValueError(f"Expected compare=[first,second], two folders of evaluations, got {self.compare!r}.")
