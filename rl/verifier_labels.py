"""Labels of PARM's three questions, out of how drawings looked on their way and how they ended; and how many of each.

After Z. Guo et al. (arXiv 2501.13926), who label the base model's own images. Of one drawing let e be the judge's
verdict on the picture in the end, and v_j his verdict on look j: that nothing on it contradicts the prompt (being
incomplete is not wrong).

* *outcome*, of the picture in the end: e.
* *clarity*, of look j: whether the judge can read it.
* *potential*, of looks that can be read: e, whether that path ended right.
* *best-of-N'*, the outcome among drawings that seemed to have potential: e, of the picture in the end of a drawing
  whose first readable look, before the end, contradicted nothing. (Those whose potential is labelled yes all end well;
  there would be nothing to choose.)

In the paper an image is clear once what can be said of it is what will be said in the end, and only there it is asked
about potential. Taken by the letter that makes potential no forecast: e is then v_j by definition (of 3,213 such labels
on bagel-nano's drawings all were the judge's verdict on the look itself), and what there is to foresee goes into
clarity, whose "no" then falls on plain images that show nothing of what will go wrong. So here clarity is what an image
shows, and potential what becomes of it: of 11,504 readable looks on the way of the same model's drawings, 79 % looked
as they ended.

A drawing without a picture, or without a verdict on it, has no labels; one that lacks a verdict on the way has that of
its outcome alone.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from ..envs.protocols import VerifierQuestion
from .verifier_looks import Sight

Kind = Literal["outcome", "clarity", "potential", "best_of"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PAPER: Mapping[Kind, int] = {"outcome": 288_000, "clarity": 120_000, "potential": 80_000, "best_of": 200_000}
"""Examples of each kind in the paper."""


class Label(NamedTuple):
    """One look with the answer to one question."""

    kind: Kind
    sight: int
    """Number of the look among those of its drawing."""
    is_yes: bool

    @property
    def question(self) -> VerifierQuestion:
        """What is asked."""
        return "outcome" if self.kind == "best_of" else self.kind


def labels_of(looks: Sequence[Sight]) -> list[Label]:
    """All labels of one drawing, whose looks are given in order."""
    end = looks[-1].is_right if looks and looks[-1].is_last else None
    if end is None:
        return []
    last = len(looks) - 1
    labels = [Label("outcome", last, end)]
    if any(look.is_readable is None or look.fits is None for look in looks):
        return labels
    labels += [Label("clarity", j, bool(look.is_readable)) for j, look in enumerate(looks)]
    labels += [Label("potential", j, end) for j, look in enumerate(looks) if look.is_readable]
    if next((look.fits for look in looks[:-1] if look.is_readable), False):
        labels.append(Label("best_of", last, end))
    return labels


def quotas(scale: float, share: float) -> dict[Kind, int]:
    """How many examples of each kind: ``share`` of the paper's, scaled."""
    return {kind: round(scale * share * num) for kind, num in PAPER.items()}


def drawn_of(num_all: int, num: int, rng: np.random.Generator) -> list[int]:
    """Which ``num`` of ``num_all`` examples are taken, in order, as they come: answers are as frequent as they are."""
    return sorted(rng.permutation(num_all)[:num].tolist())


def paired(are_yes: Sequence[bool], groups: Sequence[Hashable], num: int, rng: np.random.Generator) -> list[int]:
    """Which examples of a kind are taken, in order: ``num``, or one fewer, in pairs of a yes and a no of one group.

    In no group is one answer more frequent than the other, so that nothing is learnt from what a group is, and all
    from the image. Where there are not enough pairs all are taken.
    """
    members: dict[Hashable, tuple[list[int], list[int]]] = {}
    for k, (is_yes, group) in enumerate(zip(are_yes, groups, strict=True)):
        members.setdefault(group, ([], []))[bool(is_yes)].append(k)
    pairs = [
        pair
        for no, yes in members.values()
        for pair in zip(rng.permutation(no).tolist(), rng.permutation(yes).tolist(), strict=False)
    ]
    return sorted(k for place in rng.permutation(len(pairs))[: num // 2] for k in pairs[place])


class Count(NamedTuple):
    """How many examples of a kind there are."""

    wanted: int
    yes: int
    no: int


def counted(kinds: Iterable[tuple[Kind, bool]], wanted: Mapping[Kind, int]) -> dict[Kind, Count]:
    """What was found of what was wanted."""
    found = list(kinds)
    return {kind: Count(num, found.count((kind, True)), found.count((kind, False))) for kind, num in wanted.items()}
