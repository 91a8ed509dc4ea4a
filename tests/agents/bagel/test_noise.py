"""Windows of stochastic steps: shared by a group, within their bounds, never the last step."""

import pytest

from strokes.agents.bagel.noise import Noise, Window
from strokes.agents.bagel.sample import Sampling

KINDS = ("all", "contiguous", "scattered", "progressive")


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_shares_its_window_and_prompts_have_their_own(kind):
    window = Window(kind=kind, size=2, low=1, high=9)
    chosen = {p: {window.steps(15, (7, 3, p, member)) for member in range(8)} for p in range(40)}
    assert all(len(each) == 1 for each in chosen.values())
    assert (len({steps for (steps,) in chosen.values()}) > 3) == (kind in ("contiguous", "scattered"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("high", [None, 4, 99])
def test_steps_ascend_within_their_bounds_and_the_last_one_never_is(kind, high):
    window = Window(kind=kind, size=3, low=1, high=high)
    seen = {steps for p in range(200) for steps in [window.steps(8, (0, 4 * p, p, 0))]}
    top = min(high or 7, 7)
    assert all(steps == tuple(sorted(set(steps))) and 1 <= steps[0] and steps[-1] < top for steps in seen)
    assert {step for steps in seen for step in steps} == set(range(1, top))
    assert all(len(steps) == (top - 1 if kind == "all" else 3) for steps in seen)


def test_neighbours_are_neighbours_and_every_place_is_as_likely():
    window = Window(size=2)
    starts = [window.steps(6, (0, 0, p))[0] for p in range(4000)]
    assert all(window.steps(6, (0, 0, p)) == (s, s + 1) for p, s in enumerate(starts))
    assert all(850 < starts.count(place) < 1150 for place in range(4))


def test_a_progressive_window_moves_on_with_training_and_begins_again():
    window = Window(kind="progressive", size=2, every=25, stride=2, high=6)
    found = [window.steps(8, (0, step, 5)) for step in (0, 24, 25, 50, 75)]
    assert found == [(0, 1), (0, 1), (2, 3), (4, 5), (1, 2)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "some"}, "window.kind among .* got 'some'"),
        ({"size": 0}, "window.size .* got 0"),
        ({"size": 1.5}, "window.size .* got 1.5"),
        ({"low": -1}, "window.low .* got -1"),
        ({"low": 3, "high": 3}, "window.high above window.low .* got 3"),
        ({"every": 0}, "window.every .* got 0"),
    ],
)
def test_windows_that_make_no_sense_are_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        Window(**wrong)


@pytest.mark.parametrize("window", [Window(size=4), Window(kind="all", low=3), Window(kind="scattered", size=3, low=1)])
def test_windows_that_do_not_fit_are_refused_before_anything_is_drawn(window):
    with pytest.raises(ValueError, match="the last one is never stochastic"):
        Sampling(num_timesteps=5, noise=Noise(window=window))


@pytest.mark.parametrize("wrong", [{"eta": 0.0}, {"eta": -1}, {"kernel": "cps", "eta": 1.0}, {"kernel": "ode"}])
def test_noise_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"Expected (a noise level eta|kernel)"):
        Noise(**wrong)
