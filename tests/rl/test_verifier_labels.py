"""Labels of drawings whose every look is written down by hand."""

import numpy as np

from strokes.rl.verifier_labels import KINDS, PAPER, drawn_of, labels_of, paired, quotas
from strokes.rl.verifier_looks import Sight


def drawing(*looks, end):
    """Looks as (readable, fits) each; the last of them is the picture in the end, which is as ``end`` says."""
    last = len(looks) - 1
    return [
        Sight(
            drawing="a",
            prompt="a red circle",
            meta={},
            emission=1,
            step=k,
            is_last=k == last,
            is_readable=readable,
            fits=fits,
            is_right=end if k == last else None,
        )
        for k, (readable, fits) in enumerate(looks)
    ]


def labels(*looks, end):
    """By kind: (number of the look, the label)."""
    found: dict[str, list[tuple[int, bool]]] = {kind: [] for kind in KINDS}
    for label in labels_of(drawing(*looks, end=end)):
        found[label.kind].append((label.sight, label.is_yes))
    return found


def test_clear_is_what_can_be_read_and_potential_is_how_that_path_ended():
    found = labels((False, False), (False, True), (True, False), (True, True), end=True)
    assert found["outcome"] == [(3, True)]
    assert found["clarity"] == [(0, False), (1, False), (2, True), (3, True)]
    assert found["potential"] == [(2, True), (3, True)]  # the first of them by no means for what it shows
    assert found["best_of"] == []


def test_what_looked_well_and_ended_badly_is_a_no_to_foresee_and_for_best_of():
    found = labels((False, True), (True, True), (True, True), end=False)  # incomplete at the end, or spoilt since
    assert found["clarity"] == [(0, False), (1, True), (2, True)]
    assert found["potential"] == [(1, False), (2, False)]
    assert found["best_of"] == found["outcome"] == [(2, False)]


def test_the_picture_itself_is_no_look_on_the_way():
    assert labels((True, True), end=True)["best_of"] == []
    assert labels((False, True), (True, True), end=True)["best_of"] == []


def test_what_was_not_judged_has_no_label():
    assert labels_of([]) == [] == labels_of(drawing((True, True), end=None))
    found = labels((True, None), (True, True), end=False)
    assert found == {"outcome": [(1, False)], "clarity": [], "potential": [], "best_of": []}
    assert labels((None, True), (True, True), end=False) == found


def test_no_group_has_more_of_one_answer_than_of_the_other():
    rng = np.random.default_rng(0)
    are_yes, groups = [True] * 9 + [False] + [False] * 30 + [True] * 4, ["easy"] * 10 + ["hard"] * 34

    def counts(num):
        taken = paired(are_yes, groups, num, rng)
        assert taken == sorted(set(taken))
        return [
            sum(groups[k] == group and are_yes[k] is said for k in taken)
            for group in ("easy", "hard")
            for said in (True, False)
        ]

    assert counts(1000) == [1, 1, 4, 4] == counts(10) == counts(11)
    easy_yes, easy_no, hard_yes, hard_no = counts(7)
    assert easy_yes == easy_no and hard_yes == hard_no and easy_yes + hard_yes == 3
    assert paired([True] * 5, [1] * 5, 4, rng) == paired([True, False], [1, 2], 4, rng) == paired([], [], 4, rng) == []
    # all of a group have their chance
    assert len({k for _ in range(100) for k in paired(are_yes, groups, 10, rng)}) == len(are_yes)


def test_what_is_set_aside_is_as_it_comes():
    taken = drawn_of(1000, 400, np.random.default_rng(0))
    assert taken == sorted(set(taken)) and len(taken) == 400 and np.mean(taken) == np.clip(np.mean(taken), 450, 550)
    assert drawn_of(3, 10, np.random.default_rng(0)) == [0, 1, 2]


def test_quotas_are_the_papers_proportions():
    assert quotas(0.01, 0.5) == {kind: num // 200 for kind, num in PAPER.items()}
    assert sum(PAPER.values()) == 688_000
