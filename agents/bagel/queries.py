"""What runs over contexts many times in a row, with everything that does not change prepared once.

``Decoder`` feeds one token to each context per step; ``Denoiser`` asks for the velocity of one noisy image
per canvas, under all branches of guidance in one forward.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .cached import CachedAttention, Layout, Tokens, lay_out
from .context import Contexts, Mark, View
from .layers import Routing

ROOM = 64
"""Slots by which the room of a decoder grows: a few texts of the mini-world, small beside a context."""


class Decoder:
    """Contexts that grow by one und token per step, in lockstep."""

    def __init__(self, contexts: Contexts, rows: Sequence[int]) -> None:
        """Start at the ends of ``rows`` (distinct)."""
        self.contexts = contexts
        self.steps = 0
        """Tokens fed so far to each context."""
        self._marks = [contexts.mark(row) for row in rows]
        self._saved = 0
        self._select(list(rows))

    def step(self, tokens: Tensor) -> Tensor:
        """Feed a token to each context: int64 (R,) to final hidden states (R, D)."""
        if self.steps == self._room:
            self._save()
            self._select(self.rows)
        span = self._span + self.steps
        write = self._write + self.steps
        if self._mask is not None:
            self._mask[self._index, :, :, self._lengths + self.steps] = 0
        self._attend.layout = Layout(
            write=write,
            num_rows=len(self.rows),
            width=1,
            span=span + 1,
            mask=None if self._mask is None else self._mask[..., : span + 1],
        )
        model, positions = self.contexts.model, self._ropes + self.steps
        hidden = model.language_model.model(model.embed_text(tokens), positions, self._routing, self._attend)
        self.steps += 1
        return hidden

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some of the contexts only; the others stay where they are."""
        self._save()
        self._marks = [self._marks[i] for i in places]
        self._select([self.rows[i] for i in places])

    def close(self, rows: Sequence[int], steps: Sequence[int], hidden: Sequence[Tensor]) -> None:
        """Keep what was fed: the first ``steps[i]`` tokens of ``rows[i]``, the last with state ``hidden[i]``."""
        self._save()
        for row, fed, last in zip(rows, steps, hidden, strict=True):
            mark = self.contexts.mark(row)
            self.contexts.advance(
                row, Mark(mark.length + fed, mark.rope + fed, mark.length, mark.rope, hidden=last.clone())
            )

    def _save(self) -> None:
        spans = [(mark.length + self._saved, mark.length + self.steps) for mark in self._marks]
        self.contexts.cache.commit(self._work, self.rows, spans)
        self._saved = self.steps

    def _select(self, rows: list[int]) -> None:
        contexts, device = self.contexts, self.contexts.device
        self.rows = rows
        self._span = max(mark.length for mark in self._marks)
        self._work = contexts.reserve(rows, self._span + self.steps + ROOM)
        self._room = self._work.capacity - self._span
        lengths = np.array([mark.length for mark in self._marks])
        self._index = torch.arange(len(rows), device=device)
        self._lengths = torch.from_numpy(lengths).to(device)
        self._ropes = torch.tensor([mark.rope for mark in self._marks], device=device)
        self._write = self._index * self._work.capacity + self._lengths
        self._attend = CachedAttention(self._work, Layout(write=self._write))
        self._routing = Routing(self._index, self._index[:0], ordered=True)
        self._mask: Tensor | None = None
        if (lengths != lengths[0]).any():
            columns = torch.arange(self._work.capacity, device=device)
            hidden = columns >= (self._lengths + self.steps)[:, None]
            like = self._work.keys[0]
            mask = torch.zeros(hidden.shape, dtype=like.dtype, device=device).masked_fill_(hidden, float("-inf"))
            self._mask = mask[:, None, None].repeat(1, 1, contexts.groups, 1)


class Denoiser:
    """Velocity of one noisy image per canvas under several contexts each."""

    def __init__(
        self, contexts: Contexts, branches: Sequence[Sequence[View]], grids: Sequence[tuple[int, int]]
    ) -> None:
        """Prepare.

        Args:
            contexts: Where the views lie. They must not change while the denoiser is in use.
            branches: For each guidance branch, the view of every canvas.
            grids: (rows, columns) of latent tokens of every canvas.
        """
        self.contexts = contexts
        self.num_branches = len(branches)
        counts = [h * w for h, w in grids]
        self.width = max(counts)
        views = [view for branch in branches for view in branch]
        sizes = np.tile(counts, self.num_branches)
        self._prepare(views, sizes)
        model, device = contexts.model, contexts.device
        ids = torch.cat([torch.as_tensor(model.latent_position_ids(h, w)) for h, w in grids]).to(device)
        self._place_embeds = model.latent_pos_embed(ids)
        # Images of different sizes are padded to the largest; ``valid`` picks their real tokens.
        real = np.arange(self.width) < np.array(counts)[:, None]
        self._valid = None if real.all() else torch.from_numpy(np.flatnonzero(real)).to(device)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Velocities of the branches.

        Args:
            x: States, (canvases, width, p·p·z), zero in the padding of smaller images.
            t: Time of all of them, 0-dim in [0, 1].

        Returns:
            (branches, canvases, width, p·p·z), float32, zero in the padding.
        """
        _, latents = self.hidden(x, t)
        v = self.contexts.model.velocity(latents).float()
        v = v.view(self.num_branches, -1, v.shape[-1])
        if self._valid is None:
            return v.view(self.num_branches, *x.shape)
        padded = v.new_zeros(self.num_branches, x.shape[0] * x.shape[1], v.shape[-1])
        return padded.index_copy_(1, self._valid, v).view(self.num_branches, *x.shape)

    def hidden(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Final hidden states of the markers (2 · images, D) and of the latents (tokens, D), in branch order."""
        model = self.contexts.model
        tokens = x.flatten(0, 1)
        if self._valid is not None:
            tokens = tokens.index_select(0, self._valid)
        tokens = tokens.to(self._marker_embeds.dtype)
        latents = model.vae2llm(tokens) + model.time_embedder(t.reshape(1)) + self._place_embeds
        embeds = torch.cat([self._marker_embeds, *[latents] * self.num_branches])
        out = model.language_model.model(embeds, self._positions, self._routing, self._attend)
        return out[: len(self._marker_embeds)], out[len(self._marker_embeds) :]

    def _prepare(self, views: list[View], sizes: np.ndarray) -> None:
        """Lay out the images: all markers first (und), then all latents (gen), in the order of ``views``."""
        contexts, device = self.contexts, self.contexts.device
        rows = sorted({view.row for view in views})
        place = {row: i for i, row in enumerate(rows)}
        start, end = np.zeros(len(views), np.int64), {row: contexts.mark(row).length for row in rows}
        for i, view in enumerate(views):  # each image gets scratch slots of its own behind the context
            start[i] = end[view.row]
            end[view.row] += int(sizes[i]) + 2
        work = contexts.reserve(rows, max(end.values()))
        image = np.concatenate([np.repeat(np.arange(len(views)), 2), np.repeat(np.arange(len(views)), sizes)])
        within = np.concatenate([np.arange(size) + 1 for size in sizes])
        markers = np.stack([np.zeros_like(sizes), sizes + 1], axis=1).reshape(-1)
        tokens = Tokens(
            rows=np.array([place[view.row] for view in views])[image],
            slots=start[image] + np.concatenate([markers, within]),
            seen=np.array([view.length for view in views])[image],
            own=np.stack([start, start + sizes + 2], axis=1)[image],
        )
        self._attend = CachedAttention(work, lay_out(work, tokens, contexts.groups))
        index = torch.arange(len(image), device=device)
        self._routing = Routing(index[: 2 * len(views)], index[2 * len(views) :], ordered=True)
        self._positions = torch.tensor([view.rope for view in views], device=device)[torch.from_numpy(image).to(device)]
        ids = torch.tensor([contexts.tokens.start_of_image, contexts.tokens.end_of_image], device=device)
        self._marker_embeds = contexts.model.embed_text(ids.repeat(len(views)))
