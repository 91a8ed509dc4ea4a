"""Replay is rollout: the contract that makes a policy gradient one of the policy that drew. Shipped nano, float32."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from strokes.agents.bagel.checkpoint import load
from strokes.agents.bagel.noise import Noise, Window
from strokes.agents.bagel.sample import Sampling
from strokes.agents.bagel.sequence import pack
from strokes.agents.bagel.tokenizer import Tokenizer
from strokes.agents.interleaved import CUT, TINY, Interleaved
from strokes.agents.load import NANO
from strokes.agents.replay import Replayer, drift
from strokes.agents.rollout import Episode, Rules, play, rollout
from strokes.agents.trajectory import Trajectory
from strokes.envs.scenes.tasks import heldout
from strokes.envs.stages import Stage
from strokes.envs.transcript import Transcript
from strokes.rl.gauges import ALARM

TEXT, FLOW = 5e-5, 1e-4
"""Nats per token, and per stochastic step summed over its dimensions."""
TASKS = [task for task in heldout("heldout", 40) if task.tag in ("composition", "counting")]
EARLY = Noise(window=Window(size=3, high=4))
PLAIN = replace(TINY, num_timesteps=9, noise=EARLY)
"""8 steps, guided by text."""
SAMPLINGS = {
    "unguided": replace(PLAIN, cfg_text_scale=1.0),
    "text": PLAIN,
    "interval": replace(PLAIN, cfg_interval=(0.8, 1.0)),
    "renormed": replace(PLAIN, cfg_renorm_min=0.0, cfg_renorm_type="global"),
    "text and image": replace(PLAIN, cfg_img_scale=2.0, cfg_renorm_min=0.0, cfg_renorm_type="text_channel"),
    "cps": replace(PLAIN, noise=replace(EARLY, kernel="cps")),
    "dance": replace(PLAIN, noise=replace(EARLY, kernel="dance", eta=0.6)),
    "shifted": replace(PLAIN, timestep_shift=3.0),
    "scattered": replace(PLAIN, noise=replace(EARLY, window=Window(kind="scattered", size=3, high=5))),
}


@cache
def parts() -> tuple[Any, Tokenizer]:
    return load(NANO, dtype=torch.float32), Tokenizer.load(NANO)


def draw(
    sampling: Sampling, num: int = 6, temperature: float = 1.0, budget: int = 16, **options: Any
) -> list[Trajectory]:
    """Drawings of compositions and counts, as one batch."""
    policy = Interleaved(*parts(), sampling, temperature=temperature, is_recorded=True, **options)
    chunk = [Episode(prompt=t.prompt, meta=t.meta, seed=(0, 3, k, k % 2)) for k, t in enumerate(TASKS[:num])]
    return rollout(policy, chunk, rules=Rules(budget=budget))


def replayer(sampling: Sampling, **options: Any) -> Replayer:
    return Replayer(parts()[0].config, parts()[1], sampling, **options)


def images(trajectory: Trajectory) -> int:
    return sum(bool(reply.path) for _, _, reply in trajectory.own())


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_packed_replay_says_what_the_rollout_said(name):
    drawn = draw(SAMPLINGS[name])
    found = drift(drawn, replayer(SAMPLINGS[name])(parts()[0], drawn))
    assert found.text_max <= TEXT and found.flow_max <= FLOW, found
    assert found.flow_mean > 0  # there was something to compare


def test_it_holds_for_one_to_five_images_alone_and_together():
    drawn = draw(PLAIN, num=24, temperature=1.3, budget=24)
    by_count = {images(trajectory): trajectory for trajectory in drawn}
    assert set(by_count) >= {1, 2, 3, 4, 5}
    for several in ([t] for t in by_count.values()), [list(by_count.values())]:
        for trajectories in several:
            found = drift(trajectories, replayer(PLAIN)(parts()[0], trajectories))
            assert found.text_max <= TEXT and found.flow_max <= FLOW, found


@pytest.mark.parametrize("name", ["text", "unguided", "text and image"])
def test_the_same_calls_in_the_same_batch_say_the_same_exactly(name):
    """Replay in the geometry of the rollout: actions are functions of weights and noise, so it is drawing again."""
    drawn, again = draw(SAMPLINGS[name]), draw(SAMPLINGS[name])
    for one, other in zip(drawn, again, strict=True):
        for (_, _, mine), (_, _, theirs) in zip(one.own(), other.own(), strict=True):
            assert mine.tokens == theirs.tokens and mine.logps == theirs.logps
            assert [step.logp for step in mine.path] == [step.logp for step in theirs.path]
            assert all(torch.equal(a.x_next, b.x_next) for a, b in zip(mine.path, theirs.path, strict=True))
    alone = Interleaved(*parts(), SAMPLINGS[name], temperature=1.0, is_recorded=True)
    task = TASKS[0]
    (single,) = rollout(alone, [Episode(prompt=task.prompt, meta=task.meta, seed=(0, 3, 0, 0))], rules=Rules(budget=16))
    found = drift([single], replayer(SAMPLINGS[name])(parts()[0], [single]))
    assert found.text_max <= TEXT and found.flow_max <= FLOW, found


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.7])
def test_it_holds_at_any_temperature_and_for_cut_and_illegal_texts(temperature):
    drawn = draw(PLAIN, temperature=temperature, max_tokens=22)
    texts = [str(e.content) for t in drawn for e in t.transcript.emissions if e.stage in (Stage.PLAN, Stage.INSPECT)]
    assert any(CUT in text for text in texts)
    assert any(entry.error for t in drawn for entry in t.transcript.emissions)
    found = drift(drawn, replayer(PLAIN)(parts()[0], drawn))
    assert found.text_max <= TEXT and found.flow_max <= FLOW, found


def test_words_from_outside_are_context_and_no_choice():
    policy = Interleaved(*parts(), PLAIN, temperature=1.0, is_recorded=True)
    transcript = Transcript(prompt=TASKS[0].prompt, size=48)
    (first,) = play(policy, [transcript], [(0, 0, 0, 0)], Rules(budget=3))
    transcript.ended = None
    transcript.interject("draw a red circle <|im_start|>", source="critic")
    replies = [*first.replies, None]
    (again,) = play(policy, [transcript], [(0, 0, 0, 0)], Rules(budget=6))
    whole = Trajectory(transcript=transcript, replies=[*replies, *again.replies[len(replies) :]])
    found = drift([whole], replayer(PLAIN)(parts()[0], [whole]))
    assert found.text_max <= TEXT and found.flow_max <= FLOW, found


def test_without_gradient_it_is_the_same_bit_for_bit():
    drawn = draw(PLAIN, num=3)
    with_gradient = replayer(PLAIN)(parts()[0], drawn)
    with torch.no_grad():
        without = replayer(PLAIN)(parts()[0], drawn)
    for mine, theirs in zip(with_gradient, without, strict=True):
        assert torch.equal(mine.logps, theirs.logps) and torch.equal(mine.steps, theirs.steps)


def _rounded(trajectory: Trajectory) -> Trajectory:
    def low(x: torch.Tensor) -> torch.Tensor:
        return x.bfloat16().float()

    replies = [
        reply and replace(reply, path=tuple(s._replace(x=low(s.x), x_next=low(s.x_next)) for s in reply.path))
        for reply in trajectory.replies
    ]
    return replace(trajectory, replies=replies)


def _shifted_index(trajectory: Trajectory, times: list[float]) -> Trajectory:
    def later(t: float) -> float:
        return times[min(range(len(times)), key=lambda i: abs(times[i] - t)) + 1]

    replies = [
        reply and replace(reply, path=tuple(s._replace(t=s.t_next, t_next=later(s.t_next)) for s in reply.path))
        for reply in trajectory.replies
    ]
    return replace(trajectory, replies=replies)


@pytest.mark.parametrize("fault", ["no guidance", "a position off", "latents in bfloat16", "a step off"])
def test_faults_trip_the_alarm_by_far(fault, monkeypatch):
    drawn, sampling = draw(PLAIN, num=4), PLAIN
    again = drawn
    if fault == "no guidance":
        sampling = replace(PLAIN, cfg_text_scale=1.0)
    elif fault == "a position off":

        def moved(*args: Any, **kwargs: Any) -> Any:
            packed = pack(*args, **kwargs)
            noisy = packed.visibility.visible < 0
            return replace(packed, positions=packed.positions + noisy.long())

        monkeypatch.setattr("strokes.agents.replay.pack", moved)
    elif fault == "latents in bfloat16":
        again = [_rounded(trajectory) for trajectory in drawn]
    else:
        times = torch.linspace(1, 0, PLAIN.num_timesteps).tolist()
        again = [_shifted_index(trajectory, times) for trajectory in drawn]
    found = drift(drawn, replayer(sampling)(parts()[0], again))
    assert found.flow_max >= 10 * ALARM["flow"], found


def test_a_drawing_that_was_not_recorded_is_named():
    drawn = draw(PLAIN, num=1)
    bare = replace(drawn[0], replies=[reply and replace(reply, latent=None) for reply in drawn[0].replies])
    with pytest.raises(ValueError, match="is_recorded"):
        replayer(PLAIN)(parts()[0], [bare])


def test_trajectories_without_an_image_have_tokens_and_no_steps():
    drawn = draw(PLAIN, num=2, max_tokens=1, budget=3)
    replayed = replayer(PLAIN)(parts()[0], drawn)
    for trajectory, again in zip(drawn, replayed, strict=True):
        assert images(trajectory) == 0 and len(again.steps) == 0
        assert len(again.logps) == sum(len(reply.tokens) for _, _, reply in trajectory.own())


# Gradients ------------------------------------------------------------------------------------------


def _gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _alone(drawn: Trajectory, k: int, step: int | None) -> Trajectory:
    """The trajectory up to emission ``k``, of whose path only one step is kept; nobody else's is."""
    cut = drawn.transcript.cut(k + 1)
    replies = []
    for i, reply in enumerate(drawn.replies[: k + 1]):
        assert reply is not None
        path = (reply.path[step],) if i == k and step is not None else ()
        replies.append(replace(reply, path=path))
    return replace(drawn, transcript=cut, replies=replies)


@pytest.mark.parametrize("prefix", ["grad", "detach"])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_gradient_of_a_pack_is_the_sum_of_its_parts(prefix, checkpointed):
    """Each reply's tokens and each stochastic step in a forward of its own, over the prefix that it had."""
    model = load(NANO, dtype=torch.float64)
    model.vae.requires_grad_(False)
    drawn = max(draw(PLAIN, num=6), key=images)
    whole = replayer(PLAIN, prefix=prefix)
    if checkpointed:
        model.train()
        model.gradient_checkpointing_enable()
    (packed,) = whole(model, [drawn])
    mine = _gradients(model, packed.logps.double().sum() + packed.steps.sum())
    model.gradient_checkpointing_disable()
    total: dict[str, torch.Tensor] = {}
    for k, _, reply in drawn.own():
        losses = []
        (alone,) = whole(model, [_alone(drawn, k, None)])
        losses.append(alone.logps[len(alone.logps) - len(reply.tokens) :].double().sum())
        losses += [_step_alone(model, drawn, k, i, prefix) for i in range(len(reply.path))]
        for loss in losses:
            for name, grad in _gradients(model, loss).items():
                total[name] = total.get(name, torch.zeros_like(grad)) + grad
    scale = max(grad.abs().max() for grad in total.values())
    for name, grad in total.items():
        assert (mine[name] - grad).abs().max() <= 1e-5 * scale, name
    assert mine.keys() == {name for name, grad in total.items()}


def _step_alone(model: Any, drawn: Trajectory, k: int, i: int, prefix: str) -> torch.Tensor:
    """One stochastic step: a context, and an image that sees it; keys and values without gradient where detached."""
    (alone,) = replayer(PLAIN, prefix="grad")(_Reference(model, prefix == "detach"), [_alone(drawn, k, i)])
    return alone.steps.sum()


class _Reference:
    """The model with attention written out: softmax over what each token sees, one matrix for the whole pack."""

    def __init__(self, model: Any, is_detached: bool) -> None:
        self.model, self.is_detached = model, is_detached

    def parameters(self) -> Any:
        return self.model.parameters()

    def __call__(self, packed: Any, **options: Any) -> Any:
        from strokes.agents.bagel import model as module

        seen = packed.visibility
        inside = (seen.item[:, None] == seen.item[None]) & _in_order(packed)
        outside = (seen.visible[None] >= seen.first[:, None]) & (seen.visible[None] < seen.limit[:, None])
        noisy, allowed, is_detached = seen.visible < 0, inside | outside, self.is_detached

        class Written:
            def __init__(self, *_: Any) -> None: ...

            def __call__(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
                groups = q.shape[1] // k.shape[1]
                k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
                scores = torch.einsum("ihd,jhd->hij", q, k)
                if is_detached:  # images see their context's keys and values as constants
                    apart = noisy[:, None] & ~noisy[None]
                    scores = torch.where(apart, torch.einsum("ihd,jhd->hij", q, k.detach()), scores)
                weights = (scores / q.shape[-1] ** 0.5).masked_fill(~allowed, float("-inf")).softmax(-1)
                out = torch.einsum("hij,jhd->ihd", weights, v)
                if not is_detached:
                    return out
                own = torch.einsum("hij,jhd->ihd", weights * noisy, v)
                constant = torch.einsum("hij,jhd->ihd", weights * ~noisy, v.detach())
                return torch.where(noisy[:, None, None], own + constant, out)

        kept, module.PackedAttention = module.PackedAttention, Written  # type: ignore[misc]
        try:
            return self.model(packed, **{**options, "is_prefix_detached": False})
        finally:
            module.PackedAttention = kept  # type: ignore[misc]


def _in_order(packed: Any) -> torch.Tensor:
    """Whether the second token is not after the first, inside a causal item."""
    slots = packed.slots
    return ~packed.visibility.causal[:, None] | (slots[:, None] >= slots[None])


def test_in_detached_mode_an_image_does_not_teach_the_words_before_it():
    model = parts()[0]
    drawn = draw(PLAIN, num=2)
    norms = {}
    for prefix in ("grad", "detach"):
        replayed = replayer(PLAIN, prefix=prefix)(model, drawn)
        grads = _gradients(model, torch.cat([r.steps for r in replayed]).sum())
        norms[prefix] = grads["language_model.model.embed_tokens.weight"].abs().sum(1)
    (first, *_) = (k for k, _, reply in drawn[0].own() if reply.path)
    words = [t for k, _, reply in drawn[0].own() for t in reply.tokens[1:-1] if k < first]
    assert float(norms["grad"][words].min()) > 0
    assert float(norms["detach"][words].max()) == 0
    model.zero_grad()
    assert np.isfinite(float(norms["detach"].sum()))
