"""The methods of the comparison: ways to use one start, and ways to train it.

All methods of a size have one backbone: what searches draws with the start's weights, what learns begins with them, and
the verifier is an adapter on them. PARM is told as 1000 sampling steps against 131 of drawing in strokes (arXiv
2604.04746, table 4), 20 images of 50 steps against 2.62; names say how many images a method begins, 20 or 3, or at
whose cost it draws: ``-like-strokes`` at that of drawing in strokes, ``-like-20`` at that of 20 images. Searches are
judged by the trained verifier, which a user could have too; ``-oracle`` names those that are judged by the truth.
Learning is judged by the soft score or by the verifier, whose labels are strict verdicts on other prompts; evaluation
by the strict one, and so ``parm-potential-oracle`` trains on the evaluation's verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..agents.load import NANO, SHIPPED

FEW, MANY = 3, 20
"""Images that 131 steps of a sampler with 50 make, 2.62 of them, and 1000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is particular to a size of model."""

    policy: str
    """Whose sampling is used."""
    start: Path
    """The checkpoint of all methods: drawing in strokes, with the inspect loop, learnt by supervision."""
    rl: Mapping[str, Sequence[str]]
    """Settings of single ``RUNS``, beyond those of their experiments."""
    steps: int
    """Generations of 64 drawings that everything learns from."""
    verifier: Sequence[str]
    """Settings of the verifier's training, beyond its defaults."""
    limit: int
    """Tasks of each kind that are drawn."""
    seeds: Sequence[int]


POLICY_GRADIENT = ("joint-outcome", "joint-stages", "parm-outcome", "parm-potential", "parm-potential-oracle")
"""``RUNS`` whose images learn by the policy gradient."""
SIZES = {
    "nano": Size(policy="bagel-nano", start=NANO, rl={}, steps=50, verifier=(), limit=40, seeds=(0, 1, 2)),
    "tiny": Size(
        policy="bagel-tiny",
        start=SHIPPED,
        rl=dict.fromkeys(POLICY_GRADIENT, ("flow.lr=5.0e-5",)),
        steps=24,
        verifier=("lr=1.0e-3",),
        limit=20,
        seeds=(0,),
    ),
}
"""For cells of at most 40 minutes on one core: PARM with 20 candidates takes bagel-nano 1 to 2 s a picture, 272 of 756
at this limit, and bagel-tiny, which has five times the weights, up to one and a half times as long; it learns from half
as many drawings. The rate at which tiny's images follow the policy gradient is that of configs/rl.yaml, measured on
tiny-v1; DiffusionNFT and DPO have other losses and keep the rates of their experiments, not measured on it. Its
verifier's rate is a third of nano's, with which its loss rose again after a good start: between 600 and 800 steps .249,
with a third .245; between 800 and 1,200 .292, with a third .242 (one run each)."""


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
    temperature: float | None = None
    """Of the words, where drawings are to differ as the candidates of a search do; ``None``: the policy's."""
    like: str = ""
    """Method whose sampling steps are matched, task by task, by a search's n; "": n is told, or there is none."""
    unit: str = ""
    """With ``like``, method that tells what one drawing of the search costs; "": one image."""


ORM, PARM, PRUNED = ("policy=best-of-n", "policy.judge=verifier"), ("policy=parm",), ("policy=parm-pruned",)
IN_STROKES = (*ORM, "policy.painter=strokes")


def _both(name: str, *policy: str, like: str = "", unit: str = "") -> dict[str, Method]:
    """A search, judged by the trained verifier and by the truth; its unit is judged by the same."""
    return {
        name: Method(policy=policy, verifier="trained", like=like, unit=unit),
        f"{name}-oracle": Method(policy=policy, verifier="exact", like=like, unit=unit and f"{unit}-oracle"),
    }


METHODS: Mapping[str, Method] = {
    "one-shot": Method(policy=("policy=one-shot",)),
    "sft": Method(heeds_refine=False),
    "sft-inspect": Method(),
    "sft-sampled": Method(temperature=1.0),
    **_both("best-of-like-strokes", *ORM, like="sft-inspect"),
    **_both("parm-like-strokes", *PARM, like="sft-inspect"),
    **_both(f"best-of-{FEW}", *ORM, f"policy.n={FEW}"),
    **_both(f"best-of-{MANY}", *ORM, f"policy.n={MANY}"),
    **_both(f"parm-{MANY}", *PARM, f"policy.n={MANY}"),
    **_both(f"parm-pruned-{MANY}", *PRUNED, f"policy.n={MANY}"),
    **_both(f"parm-pruned-like-{MANY}", *PRUNED, like=f"parm-{MANY}-oracle", unit=f"parm-pruned-{MANY}"),
    "dpo": Method(learns="dpo"),
    "dpo-iterative": Method(learns="dpo-iterative"),
    "dpo-guided": Method(learns="dpo-guided"),
    "joint-outcome": Method(learns="joint-outcome"),
    "joint-stages": Method(learns="joint-stages"),
    "joint-stages-sampled": Method(learns="joint-stages", temperature=1.0),
    "parm-outcome": Method(learns="parm-outcome"),
    "parm-potential": Method(learns="parm-potential"),
    "parm-potential-oracle": Method(learns="parm-potential-oracle"),
    "nft": Method(learns="nft"),
    "sft-search": Method(policy=IN_STROKES, verifier="trained", like=f"parm-{MANY}-oracle", unit="sft-sampled"),
    "sft-search-oracle": Method(policy=IN_STROKES, verifier="exact", like=f"parm-{MANY}-oracle", unit="sft-sampled"),
    **_both("beam", "policy=beam"),
    "parm-strokes-oracle": Method(policy=(*PARM, "policy.painter=strokes"), verifier="exact"),
    "parm-plus-oracle": Method(policy=("policy=parm-plus",), verifier="exact"),
    "joint-stages-search": Method(
        policy=IN_STROKES,
        verifier="trained",
        learns="joint-stages",
        like=f"parm-{MANY}-oracle",
        unit="joint-stages-sampled",
    ),
}
"""At 20 images' cost is what costs as much as ``parm-20-oracle``, which draws all of them to their ends, and needs no
training first. Beam, PARM in strokes and PARM++ have the budgets of their files, 4 drawings begun. PARM++ corrects by
the words of its verifier, and of ours the truth alone has words."""
VERIFIER = "{verifier}"
"""Stands for the adapter of the trained verifier."""


def _soft(experiment: str, *words: str) -> tuple[str, ...]:
    """Judged by the exact world, but not as it is evaluated."""
    return (f"+experiment={experiment}", "reward.outcome=soft", *words)


POTENTIAL = ("+experiment=parm-potential", "reward.critic=policy", f"reward.adapter={VERIFIER}")
RUNS: Mapping[str, Sequence[str]] = {
    "dpo": _soft("dpo"),
    "dpo-iterative": _soft("dpo-iterative"),
    "dpo-guided": _soft("dpo-guided", f"preference.guidance.adapter={VERIFIER}"),
    "joint-outcome": _soft("joint-outcome"),
    "joint-stages": _soft("joint-stages"),
    "parm-outcome": (*POTENTIAL, "reward.process=0.0"),
    "parm-potential": POTENTIAL,
    "parm-potential-oracle": ("+experiment=parm-potential", "reward.critic=exact"),
    "nft": _soft("nft"),
}
"""Settings of ``strokes-rl``. ``parm-outcome`` is the control of ``parm-potential``: the same verifier judges the
outcome, with the same credit, and images earn nothing on the way."""


def asks_verifier(run: str) -> bool:
    """Whether the trained verifier takes part in a run."""
    return any(VERIFIER in word for word in RUNS.get(run, ()))
