"""The cells of the paper's tables: experiments, the data that each trains on, and sizes of models.

All models of a size start from one base (``mixture=base``: draws, edits and describes, knows nothing of the process)
and are trained for the same tokens, but for ``LONGER``; what differs is the data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SEEDS = (0, 1, 2)
SAMPLER = {"edits": "table7/multi-turn", "additive": "table5/additive"}
"""Who self-samples the critique, by the multi-turn data it is about."""
SHARES = {"multi_turn": 32_012, "conflict": 15_201, "alignment": 15_000}
"""Of the subsets in training: their numbers in the paper."""
JUDGED = ("table4/best-of-n", "table4/planner", "table4/inspector")
"""Experiments that train nothing: other ways to use the models of other cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is particular to a size of model. Ours, for cells of at most 40 minutes on one core."""

    policy: str
    """Whose sampling is used."""
    base: Sequence[Sequence[str]]
    """Settings of the runs of pre-training that make the base, each from the one before."""
    steps: int
    """Of every supervised training but those of ``LONGER``."""
    sft: Sequence[str]
    """Its settings beyond those of the experiment."""
    scale: float
    """Share of the paper's numbers of critiques, which take a model to make; multi-turn data are as many as there."""
    seeds: Sequence[int]


EDITS = (
    *("mixture=base", "mixture.draw.share=0.35", "mixture.draw.num=30000", "mixture.caption.share=0.05"),
    *("mixture.edit.share=0.6", "mixture.edit.num=30000", "mixture.edit.copies=6", "flat=0.6", "warmup=50", "seed=2"),
)
"""The last run of pre-training, mostly edits: a base that cannot draw what it is told learns nothing of the process."""
SIZES = {
    "nano": Size(
        policy="bagel-nano",
        base=(
            ("mixture=base", "preset=nano", "tokens=10_000_000", "ce_weight=1.0", "lr=3.0e-3"),
            (
                *("mixture=base", "mixture.draw.num=30000", "tokens=24_000_000", "flat=0.5"),
                *("lr=3.0e-3", "warmup=50", "seed=1"),
            ),
            (*EDITS, "tokens=36_000_000", "lr=3.0e-3"),
        ),
        steps=4000,
        sft=("lr=2.0e-3", "data.copies=2", "ce_weight=1.0", "evaluation.every=0"),
        scale=0.25,
        seeds=SEEDS,
    ),
    "tiny": Size(
        policy="bagel-tiny",
        base=(
            ("mixture=draw", "preset=tiny", "tokens=5_800_000", "flat=1.0"),
            ("mixture=base", "tokens=7_000_000", "ce_weight=1.0", "seed=1"),
            (*EDITS, "tokens=11_000_000"),
        ),
        steps=2000,  # half of nano's: its 4,000 would take more than the 40 minutes
        sft=("data.copies=2", "ce_weight=1.0", "evaluation.every=0"),
        scale=0.25,
        seeds=(0,),
    ),
}
DATA: Mapping[str, Mapping[str, str]] = {
    "table5/additive": {"multi_turn": "additive"},
    "table5/additive-critique": {
        "multi_turn": "additive",
        "conflict": "additive-conflict",
        "alignment": "additive-alignment",
    },
    "table7/multi-turn": {"multi_turn": "edits"},
    "table7/conflict": {"multi_turn": "edits", "conflict": "conflict"},
    "table7/alignment": {"multi_turn": "edits", "alignment": "alignment"},
    "table7/both": {"multi_turn": "edits", "conflict": "conflict", "alignment": "alignment"},
    "table7/both-longer": {"multi_turn": "edits", "conflict": "conflict", "alignment": "alignment"},
    "table6/symbolic": {"multi_turn": "edits", "conflict": "symbolic", "alignment": "alignment"},
    "table4/one-shot": {"multi_turn": "edits"},
}
"""Data sets of each subset that an experiment trains on."""
EXPERIMENTS = (*DATA, *JUDGED)
LONGER = {"table7/both-longer": 2}
"""Times the steps of the others: half of what "both" draws is critique, so this one sees multi-turn data as often as
``table7/multi-turn``. It tells what critique does from what it takes away; it is no part of the paper's tables."""
