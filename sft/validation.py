"""Validation: what is looked at while a model learns: losses stage by stage, and drawings of held-out prompts.

Losses are those of the validation split with the same times and noise every time, without condition dropout; plans and
inspections are told apart, so are sketches and refinements, and the switches between them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..agents.bagel.autoencoder import Posterior
from ..agents.bagel.model import Bagel
from ..agents.rollout import Rules, chunks, rollout
from ..envs.filmstrip import contact_sheet
from ..envs.protocols import Policy
from ..envs.scenes.tasks import heldout
from ..envs.transcript import Transcript
from ..rewards.scenes import SceneReward
from .collator import Example, Words
from .cost import image_tokens
from .dataset import PackDataset

TEXTS = ("plan", "inspect", "switch")
IMAGES = ("sketch", "refine")
BATCH = 32
"""Canvases that are drawn together."""
METRICS = ("strict", "soft")


def kinds(example: Example, copies: int, latents: Callable[[int], int]) -> tuple[list[str], list[str]]:
    """What each predicted token and each target token of an example belongs to, in the order of its pack.

    Args:
        example: As ``Collator`` is given it.
        copies: Noisy copies of each image.
        latents: From a row to the latents of its image.
    """
    texts: list[str] = []
    images: list[str] = []
    for segment in example:
        if isinstance(segment, Words):
            texts += [segment.stage] * (len(segment.ids) + 1) * segment.loss
        else:
            images += [segment.stage] * latents(segment.row) * copies * segment.loss
        if segment.switch is not None and (isinstance(segment, Words) or segment.context):
            texts.append("switch")
    return texts, images


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLosses:
    """Losses of the validation split, by stage."""

    packs: PackDataset
    posterior: Posterior

    def __call__(self, model: Bagel) -> dict[str, float]:
        """Mean losses; a stage that does not occur is left out. All processes share the packs and get the figures."""
        sums = torch.zeros(len(TEXTS) + len(IMAGES), 2, dtype=torch.float64)
        is_shared = torch.distributed.is_initialized()
        processes, rank = (torch.distributed.get_world_size(), torch.distributed.get_rank()) if is_shared else (1, 0)
        for start in range(0, len(self.packs), processes):  # all go forward equally often, as sharded weights need
            mine = start + rank
            found = self._pack(model, mine % len(self.packs))
            sums += found * (mine < len(self.packs))
        if is_shared:
            sums = sums.to(model.device, torch.float32)
            torch.distributed.all_reduce(sums)
        names = zip((*TEXTS, *IMAGES), sums.tolist(), strict=True)
        return {name: total / count for name, (total, count) in names if count}

    def _pack(self, model: Bagel, number: int) -> torch.Tensor:
        """Sums and numbers of the losses of a pack, float64 (stages, 2)."""
        batch = self.packs[number]
        packed = batch["pack"].to(model.device)
        generator = torch.Generator(packed.positions.device).manual_seed(batch["seed"])
        output = model(packed, generator=generator, posterior=self.posterior)
        texts: list[str] = []
        images: list[str] = []
        for source, index in self.packs.choices(number):
            more = kinds(self.packs.sources[source][index], self.packs.drawing.copies, self._latents(source))
            texts, images = texts + more[0], images + more[1]
        pairs = ((texts, output.ce, TEXTS), (images, output.mse, IMAGES))
        return torch.cat([_sums(np.array(found), losses, names) for found, losses, names in pairs])

    def _latents(self, source: int) -> Callable[[int], int]:
        sizes, canvas = self.packs.sources[source].sizes, image_tokens(self.packs.config)[0]
        return lambda row: canvas if sizes is None else sizes[row][0]


def _sums(found: np.ndarray, losses: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    values = losses.double().cpu()
    assert len(values) == len(found)
    masks = [torch.from_numpy(np.asarray(found == name, bool)) for name in names]
    return torch.stack([torch.stack([values[mask].sum(), mask.sum().double()]) for mask in masks])


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutSlice:
    """Held-out tasks, drawn greedily and judged exactly, with a filmstrip of the first ones."""

    make_policy: Callable[[Bagel], Policy]
    limit: int
    """Tasks of each kind."""
    size: int
    """Side of the canvas."""
    shown: int
    folder: Path
    """Of the filmstrips."""

    def __call__(self, model: Bagel, step: int) -> dict[str, float]:
        """Mean scores of the tasks."""
        tasks = heldout("heldout", self.limit)
        policy, drawn = self.make_policy(model), []
        for chunk in chunks([(task.prompt, task.meta) for task in tasks], seed=0, chunk_size=BATCH):
            drawn += rollout(policy, chunk, rules=Rules(size=self.size), score_fn=SceneReward())
        if self.shown:
            every = max(1, len(drawn) // self.shown)
            write_strip(
                [each.transcript for each in drawn[::every]][: self.shown], self.folder / f"step-{step:06d}.png"
            )
        scores = [each.score.terms for each in drawn if each.score is not None]
        figures = {name: float(np.mean([terms[name] or 0.0 for terms in scores])) for name in METRICS}
        images = [sum(e.stage.is_image and not e.error for e in each.transcript.emissions) for each in drawn]
        return figures | {"images": float(np.mean(images))}


def write_strip(transcripts: Sequence[Transcript], path: Path) -> None:
    """The images of transcripts, one below the other, as a PNG."""
    sheets = [contact_sheet(transcript) for transcript in transcripts]
    width = max(sheet.shape[1] for sheet in sheets)
    padded = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in sheets]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(padded)).save(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Both, as ``SftTrainer`` asks for them."""

    losses: StageLosses | None
    drawings: HeldOutSlice | None
    """Looked at by the first process alone."""

    def __call__(self, model: Bagel, step: int) -> Mapping[str, float]:
        """See ``trainer.Examine``."""
        found = {} if self.losses is None else self.losses(model)
        is_first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        if self.drawings is not None and is_first:
            found |= self.drawings(model, step)
        return found
