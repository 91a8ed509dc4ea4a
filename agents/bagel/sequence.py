"""The one packing: samples of items to flat token tensors, positions, visibility and losses.

A sample is a list of items; each attends to all earlier ones, except that a noisy image is seen by
nobody else. Inside an item attention is causal (text) or full (images). All tokens of an image share
one rotary position; a noisy image does not advance it.

Flat tokens are ordered text and markers | image-encoder tokens | latents, so that no linear layer ever
gathers or pads. For attention, ``rows`` arranges whole samples in rows of bounded length; with one row
that is BAGEL's own flat packing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .config import BagelConfig
from .embeddings import grid_position_ids, patchify
from .items import Dropped, Item, LatentItem, NoisyImage, StateImage, Text, VaeImage, VitImage
from .layers import Routing
from .plan import TEXT, Plan, Predicted
from .tokenizer import TokenIds

__all__ = ["Dropped", "Item", "NoisyImage", "Pack", "StateImage", "Text", "VaeImage", "VitImage", "pack"]


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Where tokens are predicted, in the order of the sequence."""

    index: Tensor
    """int64 (C,): flat index of the tokens that predict."""
    labels: Tensor
    """int64 (C,): what they predict."""
    weights: Tensor
    """float32 (C,): factor on each."""
    balance: Tensor
    """float32 (C,): official re-weighting, 1/sqrt(labels of the text); 1 for a switch."""
    temperatures: Tensor
    """float32 (C,): what logits are divided by; 1 unless the tokens were drawn at another temperature."""
    allowed: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(which of the C, ids it could be drawn from), where that was not the whole vocabulary."""


class Visibility(NamedTuple):
    """Who sees whom: i sees j iff they share an item (causal: j not after i), or first_i <= visible_j < limit_i."""

    item: Tensor
    """int64 (T,): number of the token's item."""
    visible: Tensor
    """int64 (T,): the same, -1 in noisy images."""
    first: Tensor
    """int64 (T,): number of the sample's first item."""
    limit: Tensor
    """int64 (T,): number of the first item that is not seen."""
    causal: Tensor
    """bool (T,): whether the token's item is causal inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A batch of samples as tensors. T tokens = N_text + N_vit + N_latent, in this order."""

    text_ids: Tensor
    """int64 (N_text,): text and marker ids."""
    vit_patches: Tensor
    """float32 (N_vit, P·P·3)."""
    vit_position_ids: Tensor
    """int64 (N_vit,)."""
    vit_lengths: tuple[int, ...]
    """Patches of each encoder image."""
    latents: Tensor
    """float32 (N_latent, p·p·z): clean latents or states; zero where ``pixels`` are still to be encoded."""
    latent_position_ids: Tensor
    """int64 (N_latent,)."""
    latent_image: Tensor
    """int64 (N_latent,): number of the token's image."""
    times: Tensor
    """float32 (images,): t of each latent image, in [0, 1]; 0 for clean ones."""
    pixels: tuple[Tensor, ...]
    """Images (3, H, W) to be encoded in the forward pass."""
    pixel_spans: tuple[tuple[int, int, int], ...]
    """(first latent token, rows, columns) of each of ``pixels``."""
    noisy: Tensor
    """int64 (N_noisy,): latent tokens, counted from 0, whose velocity is wanted."""
    targets: Tensor
    """int64 (N_target,): which of ``noisy`` get noise and the flow loss."""
    mse_weights: Tensor
    """float32 (N_target,)."""
    ce: CrossEntropy
    """Where tokens are predicted."""
    positions: Tensor
    """int64 (T,): rotary positions."""
    visibility: Visibility
    """Who sees whom."""
    rows: Tensor
    """int64 (R, L): flat token in each slot, -1 in padding. With R = 1: the official order of the sequence."""
    slots: Tensor
    """int64 (T,): slot (row · L + column) of each flat token."""

    @property
    def routing(self) -> Routing:
        """Expert of each flat token: latents are gen, all else und."""
        index = torch.arange(len(self.positions), device=self.positions.device)
        und, gen = index.tensor_split([len(index) - len(self.latents)])
        return Routing(und, gen, ordered=True)

    def to(self, device: torch.device | str) -> "Pack":
        """The same pack on another device."""

        def move(x: Any) -> Any:
            if isinstance(x, Tensor):
                return x.to(device, non_blocking=True)
            if isinstance(x, CrossEntropy):
                return CrossEntropy(*(move(getattr(x, f.name)) for f in fields(x)))
            if isinstance(x, Visibility):
                return Visibility(*map(move, x))
            return tuple(map(move, x)) if isinstance(x, tuple) else x

        return replace(self, **{f.name: move(getattr(self, f.name)) for f in fields(self)})


def pack(
    samples: Sequence[Sequence[Item]],
    config: BagelConfig,
    tokens: TokenIds,
    *,
    row_length: int | None = None,
    rng: np.random.Generator | None = None,
) -> Pack:
    """Pack samples.

    Args:
        samples: Items of each sample.
        config: Configuration of the model that will read the pack.
        tokens: Ids of the special tokens.
        row_length: Tokens in a row of attention, whose cost is quadratic in it; samples are binned
            first-fit-decreasing, a longer one has a row of its own. ``None``: one row, BAGEL's own flat packing.
        rng: Source of the timesteps that are not given.

    Raises:
        ValueError: A malformed item, or a timestep to be drawn without ``rng``.
    """
    plan = Plan(config, tokens, rng)
    lengths = [plan.add_sample(items) for items in samples]
    if not plan.entries:
        raise ValueError("Expected at least one item with tokens, got none.")
    sizes = np.array([len(e.ids) for e in plan.entries])
    kinds, noisy, first, limit, ropes = (np.array([e[i] for e in plan.entries]) for i in range(1, 6))
    order, num_text = _flat_order(kinds, sizes)
    flat = np.empty_like(order)  # flat index of each token of the sequence
    flat[order] = np.arange(len(order))
    within = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    causal = kinds == TEXT
    items = np.arange(len(sizes))
    per_item = (items, np.where(noisy, -1, items), first, limit, causal)
    rows, slots = _rows(lengths, row_length)
    rows.reshape(-1)[slots] = flat
    return Pack(
        text_ids=_int(np.concatenate([e.ids for e in plan.entries])[order[:num_text]]),
        ce=_cross_entropy(plan.ce, flat),
        positions=_int((np.repeat(ropes, sizes) + within * np.repeat(causal, sizes))[order]),
        visibility=Visibility(*(torch.from_numpy(np.repeat(x, sizes)[order]) for x in per_item)),
        rows=_int(rows),
        slots=_int(slots[order]),
        **_vit_fields(plan.vit, config),
        **_latent_fields(plan.latent, config),
    )


def _flat_order(kinds: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, int]:
    """Place in the sequence of each flat token, and how many are text or markers, which come first."""
    starts = np.cumsum(sizes) - sizes
    kind = np.repeat(kinds, sizes)
    kind[starts] = kind[starts + sizes - 1] = TEXT
    return np.argsort(kind, kind="stable"), int(np.count_nonzero(kind == TEXT))


def _int(x: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.int64))


def _joined(parts: Iterable[Any], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)


def _rows(lengths: Sequence[int], row_length: int | None) -> tuple[np.ndarray, np.ndarray]:
    """A table (R, L) of -1, and the slot in it of each token in sequence order; samples keep their order in a row."""
    longest = sum(lengths) if row_length is None else row_length
    fill: list[int] = []
    members: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((r for r, used in enumerate(fill) if used + lengths[i] <= longest), len(fill))
        if row == len(fill):
            fill.append(0)
            members.append([])
        fill[row] += lengths[i]
        members[row].append(i)
    begin, width = [0] * len(lengths), max(fill)
    for r, row_members in enumerate(members):
        column = r * width
        for i in sorted(row_members):
            begin[i] = column
            column += lengths[i]
    starts = np.cumsum(lengths) - lengths
    slots = np.arange(sum(lengths)) + np.repeat(np.array(begin) - starts, lengths)
    return np.full((len(fill), width), -1, np.int64), slots


def _cross_entropy(parts: list[Predicted], flat: np.ndarray) -> CrossEntropy:
    counts = [len(p.labels) for p in parts]

    def spread(values: Iterable[float]) -> Tensor:
        return torch.from_numpy(np.repeat(np.array(list(values), np.float32), counts))

    starts = np.cumsum(counts, dtype=np.int64) - counts
    allowed = [
        (int(start) + k, tuple(ids))
        for part, start in zip(parts, starts, strict=True)
        for k, ids in enumerate(part.drawn.allowed)
        if ids is not None
    ]
    return CrossEntropy(
        _int(flat[_joined((p.places for p in parts), np.int64)]),
        _int(_joined((p.labels for p in parts), np.int64)),
        spread(p.weight for p in parts),
        spread(p.balance for p in parts),
        spread(p.drawn.temperature for p in parts),
        tuple(allowed),
    )


def _vit_fields(images: list[Tensor], config: BagelConfig) -> dict[str, Any]:
    """Patches, position ids and lengths of the encoder images; runs of one size are cut in one go."""
    patch = config.vit_config.patch_size
    shapes = [tuple(x.shape) for x in images]
    patches, ids, start = [], [], 0
    while start < len(images):
        stop = start + 1
        while stop < len(images) and shapes[stop] == shapes[start]:
            stop += 1
        patches.append(patchify(torch.stack(images[start:stop]), patch).flatten(0, 1))
        start = stop
    for _, height, width in shapes:
        h, w = height // patch, width // patch
        ids.append(grid_position_ids(h, w, config.vit_max_num_patch_per_side, interpolate=config.interpolate_pos))
    empty = torch.zeros(0, patch * patch * 3)
    return dict(
        vit_patches=torch.cat(patches) if patches else empty,
        vit_position_ids=_int(_joined(ids, np.int64)),
        vit_lengths=tuple(map(len, ids)),
    )


def _latent_fields(images: list[tuple[LatentItem, tuple[int, int], float]], config: BagelConfig) -> dict[str, Any]:
    """Everything about the latents."""
    counts = np.array([h * w for _, (h, w), _ in images], np.int64)
    starts = np.cumsum(counts) - counts
    parts, pixels, spans, weights = [], [], [], []
    for (item, (h, w), _), start in zip(images, starts, strict=True):
        latent = item.state if isinstance(item, StateImage) else item.latent
        parts.append(torch.zeros(h * w, config.latent_dim) if latent is None else latent)
        if latent is None and not isinstance(item, StateImage) and item.pixels is not None:
            pixels.append(item.pixels)
            spans.append((int(start), h, w))
        if isinstance(item, NoisyImage):
            weights.append(item.weight if isinstance(item.weight, Tensor) else torch.full((h * w,), item.weight))
    ids = [
        grid_position_ids(h, w, config.max_latent_size, interpolate=config.interpolate_pos) for _, (h, w), _ in images
    ]
    noisy = np.repeat(np.array([not isinstance(item, VaeImage) for item, _, _ in images], bool), counts)
    target = np.repeat(np.array([isinstance(item, NoisyImage) for item, _, _ in images], bool), counts)
    return dict(
        latents=torch.cat(parts) if parts else torch.zeros(0, config.latent_dim),
        latent_position_ids=_int(_joined(ids, np.int64)),
        latent_image=_int(np.repeat(np.arange(len(images)), counts)),
        times=torch.tensor([t for _, _, t in images], dtype=torch.float32),
        pixels=tuple(pixels),
        pixel_spans=tuple(spans),
        noisy=_int(np.flatnonzero(noisy)),
        targets=_int(np.flatnonzero(target[noisy])),
        mse_weights=torch.cat(weights) if weights else torch.zeros(0),
    )
