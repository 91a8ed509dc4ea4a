"""The methods of the comparison: ways to use one start, and ways to train it.

All methods of a size have one backbone: what searches draws with the start's weights, what learns begins with them, and
the verifier is an adapter on them. Budgets are in images: PARM's 1000 sampling steps are 20 images of 50 steps, and 131
steps, of drawing in strokes, 2.62 (arXiv 2604.04746, table 4). Searches are judged by the trained verifier, which a
user could have too; ``-oracle`` names those that are judged by the truth. Learning is judged by the soft score, or by
the verifier, evaluation by the strict one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..agents.load import NANO, SHIPPED

FEW, MANY = 3, 20
"""Images of 131 steps, 2.62 of them, and of 1000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is particular to a size of model."""

    policy: str
    """Whose sampling is used."""
    start: Path
    """The checkpoint of all methods: drawing in strokes, with the inspect loop, learnt by supervision."""
    rl: Sequence[str]
    """Settings of all reinforcement learning, beyond those of the experiment."""
    limit: int | None
    """Tasks of each kind that are drawn; ``None``: all."""
    seeds: Sequence[int]


SIZES = {
    "nano": Size(policy="bagel-nano", start=NANO, rl=(), limit=None, seeds=(0, 1, 2)),
    "tiny": Size(policy="bagel-tiny", start=SHIPPED, rl=("flow.lr=5.0e-5",), limit=20, seeds=(0,)),
}
"""For cells of at most 40 minutes on one core: PARM with 20 candidates takes bagel-nano 2 s a picture where nothing is
ever clear, and bagel-tiny has ten times the weights. The rate of tiny's images is that of configs/rl.yaml, measured on
it; nano's is that of the experiments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to use or to train the start."""

    policy: Sequence[str] = ()
    """Settings of ``strokes-evaluate``; none: it draws in strokes."""
    verifier: Literal["", "exact", "trained"] = ""
    """Who is asked in a search."""
    learns: str = ""
    """One of ``RUNS``; "": it does not."""
    heeds_refine: bool = True
    """Whether inspections may ask for corrections."""
    drawn_like: str = ""
    """Method whose drawings are searched in, as many as make up ``MANY`` images; "": n is told, or there is none."""


def _best_of(n: int, verifier: Literal["exact", "trained"]) -> Method:
    return Method(policy=("policy=best-of-n", "policy.judge=verifier", f"policy.n={n}"), verifier=verifier)


def _parm(name: str, verifier: Literal["exact", "trained"]) -> Method:
    return Method(policy=(f"policy={name}", f"policy.n={MANY}"), verifier=verifier)


IN_STROKES = ("policy=best-of-n", "policy.painter=strokes", "policy.judge=verifier")
METHODS: Mapping[str, Method] = {
    "one-shot": Method(policy=("policy=one-shot",)),
    "best-of-131": _best_of(FEW, "trained"),
    "best-of-131-oracle": _best_of(FEW, "exact"),
    "best-of-1000": _best_of(MANY, "trained"),
    "best-of-1000-oracle": _best_of(MANY, "exact"),
    "parm": _parm("parm", "trained"),
    "parm-oracle": _parm("parm", "exact"),
    "parm-pruned": _parm("parm-pruned", "trained"),
    "parm-pruned-oracle": _parm("parm-pruned", "exact"),
    "sft": Method(heeds_refine=False),
    "sft-inspect": Method(),
    "dpo": Method(learns="dpo"),
    "dpo-iterative": Method(learns="dpo-iterative"),
    "dpo-guided": Method(learns="dpo-guided"),
    "joint-outcome": Method(learns="joint-outcome"),
    "joint-stages": Method(learns="joint-stages"),
    "parm-potential": Method(learns="parm-potential"),
    "parm-potential-oracle": Method(learns="parm-potential-oracle"),
    "nft": Method(learns="nft"),
    "sft-search": Method(policy=IN_STROKES, verifier="trained", drawn_like="sft-inspect"),
    "joint-stages-search": Method(
        policy=IN_STROKES, verifier="trained", learns="joint-stages", drawn_like="joint-stages"
    ),
}
VERIFIER = "{verifier}"
"""Stands for the adapter of the trained verifier."""


def _soft(experiment: str, *words: str) -> tuple[str, ...]:
    """Judged by the exact world, but not as it is evaluated."""
    return (f"+experiment={experiment}", "reward.outcome=soft", *words)


RUNS: Mapping[str, Sequence[str]] = {
    "dpo": _soft("dpo"),
    "dpo-iterative": _soft("dpo-iterative"),
    "dpo-guided": _soft("dpo-guided", f"preference.guidance.adapter={VERIFIER}"),
    "joint-outcome": _soft("joint-outcome"),
    "joint-stages": _soft("joint-stages"),
    "parm-potential": ("+experiment=parm-potential", "reward.critic=policy", f"reward.adapter={VERIFIER}"),
    "parm-potential-oracle": ("+experiment=parm-potential", "reward.critic=exact"),
    "nft": _soft("nft"),
}
"""Settings of ``strokes-rl``."""


def asks_verifier(run: str) -> bool:
    """Whether the trained verifier takes part in a run."""
    return any(VERIFIER in word for word in RUNS.get(run, ()))
