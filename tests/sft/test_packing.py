"""Packs: whole, full, in shares, and the same every time."""

from collections import Counter

import numpy as np
import pytest

from strokes.sft.packing import Packing, fill


def lengths(num, seed=0, low=90, high=500):
    return np.random.default_rng(seed).integers(low, high, num)


def test_every_sample_is_in_one_pack_and_no_pack_is_too_long():
    found = fill(lengths(500).tolist(), 2400)
    assert sorted(k for pack in found for k in pack) == list(range(500))
    assert all(sum(lengths(500)[pack]) <= 2400 for pack in found)


def test_a_pack_begins_with_what_has_waited_longest():
    found = fill(lengths(300).tolist(), 1000)
    rest = list(range(300))
    for pack in found:
        assert pack[0] == rest[0]
        rest = [k for k in rest if k not in pack]


def test_hardly_anything_is_wasted():
    assert Packing([lengths(1000), lengths(500, 1)], 2400).waste() <= 0.02


def test_little_is_wasted_where_hardly_two_fit_into_a_pack():
    """Lengths as the paper's subsets may have them, in its proportions, a tenth of its size."""
    subsets = [lengths(3201, 0, 9000, 27_400), lengths(1520, 1, 8000, 27_000), lengths(1500, 2, 5000, 20_000)]
    assert Packing(subsets, 33_000).waste() <= 0.05
    assert Packing([lengths(6000, 3, 5000, 27_000)], 33_000).waste() <= 0.05


def test_an_epoch_draws_every_sample_once_and_the_next_one_in_another_order():
    packing = Packing([lengths(100), lengths(50, 1)], 2400, seed=3)
    first, second = (Counter(choice for pack in packing.epoch(k) for choice in pack) for k in (0, 1))
    assert first == second and set(first.values()) == {1} and len(first) == 150
    assert packing.epoch(0) != packing.epoch(1)


def test_packs_depend_on_seed_and_number_alone():
    def make(seed):
        return Packing([lengths(80), lengths(40, 1)], 1200, shares=[1, 2], seed=seed)

    forwards, backwards = make(5), make(5)
    numbers = range(60)
    assert [forwards[k] for k in numbers] == [backwards[k] for k in reversed(numbers)][::-1]
    assert make(6).epoch(0) != make(5).epoch(0)


def test_shares_are_of_the_samples_drawn():
    packing = Packing([lengths(90), lengths(10, 1)], 2400, shares=[1, 3])
    drawn = Counter(choice for epoch in range(4) for pack in packing.epoch(epoch) for choice in pack)
    per_source = Counter(source for source, _ in drawn.elements())
    assert per_source == {0: 100, 1: 300}
    assert {drawn[choice] for choice in drawn if choice.source == 1} == {30}, "evenly, though more often than once"
    assert max(drawn[choice] for choice in drawn if choice.source == 0) == 2


def test_a_trajectory_longer_than_a_pack_is_named_or_left_out():
    found = np.array([100, 2500, 300])
    with pytest.raises(ValueError, match=r"'b' of 2500; raise the budget"):
        Packing([found], 2400, names=[["a", "b", "c"]])
    packing = Packing([found], 2400, on_long="skip")
    assert packing.skipped == [[1]] and {c.sample for p in packing.epoch(0) for c in p} == {0, 2}
    with pytest.raises(ValueError, match="got none in one"):
        Packing([np.array([2500])], 2400, on_long="skip")


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="share above 0"):
        Packing([lengths(5), lengths(5)], 2400, shares=[1, 0])
    with pytest.raises(ValueError, match="on_long"):
        Packing([lengths(5)], 2400, on_long="cut")
