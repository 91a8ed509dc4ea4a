"""The schedule, the guidance rule and the denoising step."""

from itertools import pairwise

import pytest
import torch

from strokes.agents.bagel import flow


def images(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_schedule_runs_from_noise_to_data_with_one_evaluation_fewer_than_points():
    times = flow.schedule(4, 3.0)
    assert times.tolist() == pytest.approx([1, 6 / 7, 3 / 5, 0])
    assert flow.schedule(2, 1.0).tolist() == [1, 0]


def test_schedule_refuses_a_single_point_and_a_shift_of_zero():
    with pytest.raises(ValueError, match="at least 2"):
        flow.schedule(1, 1.0)
    with pytest.raises(ValueError, match="positive"):
        flow.schedule(4, 0.0)


def test_guidance_interval_excludes_its_lower_bound_even_in_float32():
    times = flow.schedule(12, 3.0)  # one of them is 0.4 rounded to float32, which exceeds the double 0.4
    tie = (times - 0.4).abs().argmin()
    on = flow.is_guided(times, (0.4, 1.0))
    assert not on[tie]
    assert on[:tie].all() and not on[tie:].any()


def test_every_image_is_renormalised_on_its_own_unless_the_pack_is_asked_for():
    v, v_text = images(1, 3, 5, 4), images(2, 3, 5, 4)
    v_text[1] *= 9
    for renorm in ("global", "channel", "text_channel"):
        together = flow.guide(v, v_text, None, text_scale=4.0, img_scale=1.0, renorm=renorm)
        for i in range(3):
            alone = flow.guide(v[i], v_text[i], None, text_scale=4.0, img_scale=1.0, renorm=renorm)
            torch.testing.assert_close(together[i], alone)
    whole = flow.guide(v, v_text, None, text_scale=4.0, img_scale=1.0, renorm="pack")
    assert whole.norm() == pytest.approx(v.norm().item(), rel=1e-5)
    assert whole[1].norm() > 1.2 * v[1].norm()


def test_zero_padding_of_a_smaller_image_changes_nothing():
    v, v_text, v_img = images(1, 4, 6), images(2, 4, 6), images(3, 4, 6)
    padded = [torch.cat([x, torch.zeros(2, 6)]) for x in (v, v_text, v_img)]
    for renorm in ("global", "channel", "text_channel"):
        scales = {"text_scale": 4.0, "img_scale": 2.0, "renorm": renorm}
        torch.testing.assert_close(flow.guide(*padded, **scales)[:4], flow.guide(v, v_text, v_img, **scales))
        assert not flow.guide(*padded, **scales)[4:].any()


def test_renormalisation_never_amplifies_and_its_minimum_bounds_it():
    v = images(1, 5, 4)
    shrunk = flow.guide(v, 2 * v, None, text_scale=1.5, img_scale=1.0)  # 2v + 1.5 (v - 2v) = 0.5 v
    torch.testing.assert_close(shrunk, 0.5 * v)
    plain = -v + 4 * (v + v)
    off = flow.guide(v, -v, None, text_scale=4.0, img_scale=1.0, renorm_min=1.0)
    torch.testing.assert_close(off, plain)


def test_without_text_guidance_there_is_none():
    v = images(1, 5, 4)
    assert flow.guide(v, None, 3 * v, text_scale=1.0, img_scale=2.0) is v


def test_an_unknown_renormalisation_is_named():
    v = images(1, 5, 4)
    with pytest.raises(ValueError, match="'local'"):
        flow.guide(v, v, None, text_scale=2.0, img_scale=1.0, renorm="local")


def test_steps_along_the_true_velocity_end_in_the_data():
    data, noise = images(1, 5, 4), images(2, 5, 4)
    x, times = noise, flow.schedule(7, 3.0).tolist()
    for t, t_next in pairwise(times):
        torch.testing.assert_close(x, (1 - t) * data + t * noise, atol=1e-5, rtol=0)
        x = flow.step(x, noise - data, t, t_next)
    torch.testing.assert_close(x, data, atol=1e-5, rtol=0)
