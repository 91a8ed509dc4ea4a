"""Quotas: what is chosen of skewed candidates, so that nothing but what is judged gives the label away."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from strokes.envs.transcript import Transcript
from strokes.sft.quotas import Candidate, Harvest


def skewed(num, seed, wrong_at, source="self-sampled"):
    """Candidates that are wrong as often as ``wrong_at`` says of a step, and twice as often after a detour."""
    rng = np.random.default_rng(seed)
    for k in range(num):
        step, is_pending = int(rng.integers(len(wrong_at))), bool(rng.random() < 0.2)
        label = rng.random() >= min(0.95, wrong_at[step] * (1 + is_pending))
        yield Candidate(
            transcript=Transcript(prompt=f"{source} {seed} {k}", size=16),
            label=bool(label),
            step=step,
            is_pending=is_pending,
            source=source,
            is_top_up=source == "symbolic",
            kinds=() if label else (("color", "count", "relation")[int(rng.integers(3))],),
            is_complete=bool(label and rng.random() < 0.6),
        )


def shares(chosen, key):
    """The share of wrong ones where ``key`` says something else, and how many those are."""
    counts = Counter((key(each), each.label) for each in chosen)
    totals = Counter(key(each) for each in chosen)
    return {name: (counts[name, False] / num, num) for name, num in totals.items()}


def harvested(positives, negatives, *streams):
    harvest = Harvest(positives, negatives)
    for stream in streams:
        harvest.take(stream)
    return harvest


def test_neither_step_nor_a_pending_detour_gives_the_label_away():
    harvest = harvested(135, 165, skewed(2000, 1, (0.18, 0.5, 0.75, 0.75)))
    assert not harvest.lacks()
    chosen = harvest.chosen(np.random.default_rng(0))
    assert Counter(each.label for each in chosen) == {True: 135, False: 165}
    for key in (lambda c: c.step, lambda c: c.is_pending, lambda c: c.cell):
        for share, num in shares(chosen, key).values():
            assert abs(share - 165 / 300) <= 1 / num + 1e-6  # what is rounded
    assert {each.step for each in chosen} == {0, 1, 2, 3}


def test_what_is_topped_up_is_so_for_both_labels():
    own, spare = skewed(300, 2, (0.02, 0.4)), skewed(1000, 3, (0.5, 0.5), "symbolic")
    harvest = harvested(135, 165, own)
    assert harvest.lacks()
    harvest.take(spare)
    chosen = harvest.chosen(np.random.default_rng(0))
    found = shares(chosen, lambda c: c.source)
    assert set(found) == {"self-sampled", "symbolic"}
    assert all(abs(share - 165 / 300) < 0.05 for share, _ in found.values())
    assert all(abs(share - 165 / 300) < 0.05 for share, _ in shares(chosen, lambda c: c.step).values())


def test_a_second_source_is_left_alone_where_the_first_is_enough():
    streams = skewed(1000, 4, (0.5, 0.5)), skewed(1000, 5, (0.5, 0.5), "symbolic")
    chosen = harvested(45, 55, *streams).chosen(np.random.default_rng(0))
    assert {each.source for each in chosen} == {"self-sampled"}


def test_where_labels_share_no_step_the_numbers_still_hold():
    chosen = harvested(20, 20, skewed(200, 6, (0.0, 1.0))).chosen(np.random.default_rng(0))
    assert Counter(each.label for each in chosen) == {True: 20, False: 20}
    with pytest.raises(ValueError, match="Expected 20 right and 500 wrong candidates"):
        harvested(20, 500, skewed(200, 6, (0.0, 1.0))).chosen(np.random.default_rng(0))


def test_where_all_of_a_cell_is_complete_others_make_up_for_it():
    later = [replace(each, is_complete=True) for each in skewed(1000, 8, (0.5, 0.5)) if each.step and each.label]
    rest = [each for each in skewed(1000, 8, (0.5, 0.5)) if not (each.step and each.label)]
    chosen = harvested(100, 100, later, rest).chosen(np.random.default_rng(0))
    assert sum(each.is_complete for each in chosen) < 0.55 * 100  # half of them have to be


def test_kinds_of_faults_take_turns_and_most_of_what_is_right_is_incomplete():
    chosen = harvested(90, 90, skewed(3000, 7, (0.3,))).chosen(np.random.default_rng(0))
    kinds = Counter(each.kind for each in chosen if not each.label)
    assert max(kinds.values()) - min(kinds.values()) <= 2
    assert 0 < sum(each.is_complete for each in chosen) <= 36
