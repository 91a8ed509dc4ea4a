"""Replay: the log-probs of everything that trajectories sampled, in one packed forward.

A trajectory becomes one sample of ``bagel.sequence``, the packing of supervised training: its prompt, texts by the ids
that were sampled, images as they re-entered the context, and beside each image one ``StateImage`` for every stochastic
step and branch of guidance. States see the context and themselves, and nobody sees them, so all steps of all images
share one context. Where image guidance was on, the texts alone are a second sample for its branch.

Learning on the forward process gives states of its own (``forward_states``) in place of the recorded steps. They are
packed in the same way, under the conditional context alone: it trains without guidance.

The distributions are those of the rollout: tokens masked and tempered as they were drawn, velocities guided per image,
steps by ``flow.moments``. Only the order of floating-point sums differs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..envs.protocols import Reply, Transition
from ..envs.stages import Stage
from .bagel import flow
from .bagel.config import BagelConfig
from .bagel.items import Drawn, StateImage, Text, VitImage
from .bagel.pictures import as_items
from .bagel.sample import Sampling
from .bagel.sequence import Item, pack
from .bagel.tokenizer import Tokenizer
from .forward_states import ForwardState
from .interleaved_session import heard, prompt_text
from .trajectory import Trajectory

Prefix = Literal["grad", "detach"]
"""Whether the loss on an image also reaches the words and images before it: ``grad``, yes (R3); ``detach``, states see
keys and values of their context without gradient, as from a cache (flow_grpo, UniRL). Texts learn the same in both."""


class Replayed(NamedTuple):
    """One trajectory, replayed: N sampled tokens, S states of all images, each of (T, C).

    The states are those of the recorded stochastic steps, or forward states, which are no steps and have no density:
    ``steps``, ``means`` and ``stds`` are then empty.
    """

    logps: Tensor
    """float32 (N,): log-probs of the tokens of all own replies, one reply after the other."""
    entropies: Tensor
    """float32 (N,): of what they were drawn from, in nats, without gradient."""
    steps: Tensor
    """float64 (S,): log-densities of the stochastic steps, in nats, summed over T and C."""
    means: Tensor
    """float32 (S, T, C): of the steps' Gaussians."""
    stds: Tensor
    """float32 (S,): of them, in every dimension."""
    velocities: Tensor
    """float32 (S, T, C): after guidance; without any, of forward states."""
    emission: Tensor
    """int64 (S,): number of the emission that each state belongs to."""


class Drift(NamedTuple):
    """How far a replay is from what the rollout recorded, in nats."""

    text_max: float
    text_mean: float
    flow_max: float
    flow_mean: float
    worst: str
    """Where it is farthest in units of what float32 allows (text 5e-5, flow 1e-4)."""


@dataclass(slots=True)
class _Step:
    """A stochastic step or a forward state on its way through a pack: where its states stand among all states."""

    transition: Transition | None
    """``None``: a forward state."""
    emission: int
    full: int
    text: int | None = None
    img: int | None = None


class Replayer:
    """Packs trajectories and reads their log-probs."""

    def __init__(
        self,
        config: BagelConfig,
        tokenizer: Tokenizer,
        sampling: Sampling,
        *,
        prefix: Prefix = "grad",
        row_length: int | None = 512,
    ) -> None:
        """Args:

        config: Of the model.
        tokenizer: Of the policy that drew.
        sampling: Of the policy that drew.
        prefix: See ``Prefix``.
        row_length: Tokens in a row of attention, see ``sequence.pack``; 512 holds two rounds of the mini-world.
        """
        self.config, self.tokenizer, self.sampling = config, tokenizer, sampling
        self.prefix, self.row_length = prefix, row_length

    def __call__(
        self,
        model: Any,
        trajectories: Sequence[Trajectory],
        states: Sequence[Sequence[ForwardState]] | None = None,
    ) -> list[Replayed]:
        """Replay, with gradient where it is on.

        Args:
            model: A ``Bagel``, or what wraps one (adapters, data parallelism); called once.
            trajectories: With flow paths and latents (``Interleaved(is_recorded=True)``).
            states: Forward states of each trajectory, in the order of their emissions; ``None``: the recorded
                stochastic steps.
        """
        samples: list[list[Item]] = []
        given = [None] * len(trajectories) if states is None else states
        builders = [_Builder(self, *pair, samples) for pair in zip(trajectories, given, strict=True)]
        packed = pack(samples, self.config, self.tokenizer.ids, row_length=self.row_length)
        device = next(model.parameters()).device
        out = model(packed.to(device), is_prefix_detached=self.prefix == "detach", wants_entropy=True)
        counts = [builder.num_tokens for builder in builders]
        logps, entropies = (-out.ce).split(counts), out.entropy.split(counts)
        velocities = out.velocity.float().split([n for builder in builders for n in builder.sizes])
        result, first = [], 0
        for builder, *texts in zip(builders, logps, entropies, strict=True):
            own = velocities[first : first + len(builder.sizes)]
            first += len(builder.sizes)
            result.append(Replayed(*texts, *self._flow(builder.steps, own, device)))
        return result

    def _flow(self, steps: Sequence[_Step], velocities: Sequence[Tensor], device: torch.device) -> tuple[Tensor, ...]:
        """Log-densities, means, standard deviations, velocities and emissions of one trajectory's states."""
        noise, told, vs = self.sampling.noise, [], []
        none = torch.zeros(0, device=device)
        empty = none.reshape(0, 0, self.config.latent_dim)
        for step in steps:
            at = step.transition
            v = velocities[step.full]
            if step.text is not None:
                v = flow.guide(
                    v,
                    velocities[step.text],
                    None if step.img is None else velocities[step.img],
                    text_scale=self.sampling.cfg_text_scale,
                    img_scale=self.sampling.cfg_img_scale,
                    renorm=self.sampling.cfg_renorm_type,
                    renorm_min=self.sampling.cfg_renorm_min,
                )
            vs.append(v)
            if at is not None:
                assert noise is not None
                gaussian = flow.moments(at.x.to(device), v, at.t, at.t_next, at.eta, noise.kernel)
                told.append((flow.log_prob(at.x_next.to(device), gaussian), gaussian.mean, gaussian.std))
        emission = torch.tensor([step.emission for step in steps], dtype=torch.int64, device=device)
        flows = torch.stack(vs) if vs else empty
        if not told:
            return none.double(), empty, none, flows, emission
        logps, means, stds = zip(*told, strict=True)
        return torch.stack(logps), torch.stack(means), torch.tensor(stds, device=device), flows, emission


class _Builder:
    """One trajectory as samples of a pack."""

    def __init__(
        self,
        replayer: Replayer,
        trajectory: Trajectory,
        states: Sequence[ForwardState] | None,
        samples: list[list[Item]],
    ) -> None:
        """Append the trajectory's samples to ``samples``."""
        self.of, self.trajectory, self.given = replayer, trajectory, states
        self.num_tokens = 0
        self.steps: list[_Step] = []
        self.sizes: list[int] = []
        """Latent tokens of each state, in the order of the pack."""
        self._items: list[Item] = [prompt_text(trajectory.transcript.prompt, replayer.tokenizer)]
        self._texts: list[Item] = list(self._items)
        self._last = 0  # the last item that is seen by others
        self._base = 0  # items of the text-unconditional context, noisy ones before them included
        self._img_states: list[tuple[StateImage, int]] = []
        for k, reply in enumerate(trajectory.replies):
            self._add(k, reply)
        samples.append(self._items)
        if self.of.sampling.cfg_img_scale > 1:
            self._add_images_branch(samples)

    def _add(self, k: int, reply: Reply | None) -> None:
        entry = self.trajectory.transcript.emissions[k]
        if reply is not None and reply.tokens:
            self._predict_switch(reply)
        if entry.stage is Stage.STOP:
            return
        if isinstance(entry.content, str):
            text = Text(ids=heard(entry, self.of.tokenizer)) if reply is None else self._sampled(reply)
            self._base, self._last = len(self._items), len(self._items)
            self._items.append(text)
            self._texts.append(Text(ids=text.ids))
            return
        if reply is not None:
            self._add_states(k, reply)
        image = np.asarray(entry.content)
        latent = None if reply is None else reply.latent
        if latent is None:
            raise ValueError(
                f"Expected the latent of emission {k} with which its image re-entered the context; draw with "
                "Interleaved(is_recorded=True), and train on no given canvases."
            )
        self._items += as_items(self.of.config, image, latent)
        self._base, self._last = len(self._items), len(self._items) - 1

    def _predict_switch(self, reply: Reply) -> None:
        """The first token of a reply is predicted where the context ended."""
        last = self._items[self._last]
        assert isinstance(last, Text | VitImage)
        drawn = Drawn(reply.temperature or 1.0, [reply.allowed[0]])
        self._items[self._last] = replace(last, switch=reply.tokens[0], switch_drawn=drawn)
        self.num_tokens += 1

    def _sampled(self, reply: Reply) -> Text:
        """A text by its sampled ids; where it was cut, nobody sampled the marker that closes it."""
        tokens, allowed = reply.tokens[1:], reply.allowed[1:]
        is_cut = not tokens or tokens[-1] != self.of.tokenizer.ids.eos_token_id
        self.num_tokens += len(tokens)
        ids = tokens if is_cut else tokens[:-1]
        loss = [True] * len(ids) + [not is_cut]
        return Text(ids=ids, loss=loss, drawn=Drawn(reply.temperature or 1.0, allowed))

    def _add_states(self, k: int, reply: Reply) -> None:
        """The states of an image: those given, or those of its stochastic steps."""
        if self.given is None:
            for transition in reply.path:
                if transition.eta:
                    self._add_step(k, transition)
            return
        for each in self.given:
            if each.emission == k:
                self.steps.append(_Step(None, k, self._state(StateImage(state=each.state, time=each.time))))

    def _add_step(self, k: int, at: Transition) -> None:
        """The state of a step under every branch that guided it."""
        sampling = self.of.sampling
        step = _Step(at, k, full=self._state(StateImage(state=at.x, time=at.t)))
        # The sampler's own test, on the schedule's float32 times.
        is_guided = sampling.cfg_text_scale > 1 and bool(
            flow.is_guided(torch.tensor([at.t], dtype=torch.float32), sampling.cfg_interval)[0]
        )
        if is_guided:
            step.text = self._state(StateImage(state=at.x, time=at.t, sees=self._base))
            if sampling.cfg_img_scale > 1:
                self._img_states.append((StateImage(state=at.x, time=at.t), len(self.steps)))
                self._texts.append(self._img_states[-1][0])
        self.steps.append(step)

    def _state(self, state: StateImage) -> int:
        self._items.append(state)
        self.sizes.append(len(state.state))
        return len(self.sizes) - 1

    def _add_images_branch(self, samples: list[list[Item]]) -> None:
        """The texts alone, with the states that image guidance needs there."""
        if self._img_states:
            samples.append(self._texts)
        for state, step in self._img_states:
            self.steps[step].img = len(self.sizes)
            self.sizes.append(len(state.state))


def drift(trajectories: Sequence[Trajectory], replayed: Sequence[Replayed]) -> Drift:
    """How far a replay is from the rollout, over all tokens and stochastic steps; 0 where there are none."""
    text: list[tuple[float, str]] = []
    flows: list[tuple[float, str]] = []
    for number, (trajectory, again) in enumerate(zip(trajectories, replayed, strict=True)):
        tokens, steps = again.logps.detach().tolist(), again.steps.detach().tolist()
        for k, _, reply in trajectory.own():
            for i, logp in enumerate(reply.logps):
                text.append((_apart(tokens.pop(0), logp), f"trajectory {number}, emission {k}, token {i}"))
            for i, at in enumerate(step for step in reply.path if step.eta):
                flows.append((_apart(steps.pop(0), at.logp), f"trajectory {number}, emission {k}, step {i}"))
    worst = max([(d / 5e-5, w) for d, w in text] + [(d / 1e-4, w) for d, w in flows], default=(0.0, "nowhere"))
    text_max, flow_max = (max((d for d, _ in found), default=0.0) for found in (text, flows))
    text_mean, flow_mean = (float(np.mean([d for d, _ in found])) if found else 0.0 for found in (text, flows))
    return Drift(text_max, text_mean, flow_max, flow_mean, worst[1])


def _apart(one: float, other: float) -> float:
    """Their distance; infinite where either is no number, so that no maximum passes it over."""
    distance = abs(one - other)
    return math.inf if math.isnan(distance) else distance
