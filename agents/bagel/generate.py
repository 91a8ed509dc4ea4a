"""Texts out of contexts, many canvases at a time.

Nothing here draws random numbers: a caller hands in uniform numbers for tokens, so that what a canvas says does not
depend on its neighbours in the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .context import Contexts
from .queries import Decoder


class Allowed:
    """A set of token ids to choose from."""

    def __init__(self, ids: Sequence[int]) -> None:
        if not len(ids):
            raise ValueError("Expected at least one allowed token id, got none.")
        self.ids = tuple(sorted(ids))
        self._masks: dict[tuple[int, torch.device], Tensor] = {}

    def mask(self, vocab_size: int, device: torch.device) -> Tensor:
        """0 for allowed ids and -inf elsewhere, float32 (vocab_size,)."""
        if (vocab_size, device) not in self._masks:
            mask = torch.full((vocab_size,), float("-inf"), device=device)
            mask[list(self.ids)] = 0
            self._masks[vocab_size, device] = mask
        return self._masks[vocab_size, device]


Constraint = Callable[[Sequence[int]], Allowed | None]
"""From the ids of a text so far to those that may come next; ``None``: any, now and for the rest of the text."""


def choose(
    logits: Tensor, uniforms: np.ndarray, temperature: float, allowed: Sequence[Allowed | None] = ()
) -> tuple[Tensor, Tensor]:
    """Choose one token per row from the masked, tempered distribution.

    Args:
        logits: float32 (R, V).
        uniforms: One number in [0, 1) per row, inverted through the cumulative distribution, float (R,).
        temperature: Divides the logits; 0 chooses the most probable.
        allowed: Ids each row may choose from; ``None`` is all; empty: all rows choose from all.

    Returns:
        Ids int64 (R,) and their log-probs float32 (R,); at temperature 0 those of the masked distribution
        at temperature 1.
    """
    if temperature < 0:
        raise ValueError(f"Expected a temperature of at least 0, got {temperature!r}.")
    if any(a is not None for a in allowed):
        logits = logits.clone()
        for row, among in enumerate(allowed):
            if among is not None:
                logits[row] += among.mask(logits.shape[1], logits.device)
    logps = torch.log_softmax(logits / (temperature or 1.0), dim=-1)
    if temperature == 0:
        ids = logits.argmax(-1)
    else:
        # float64: with 150,000 tokens the float32 sum is off by more than the rare ones weigh.
        cumulative = logps.double().exp().cumsum(-1)
        drawn = torch.from_numpy(np.ascontiguousarray(uniforms, dtype=np.float64)).to(logits.device)
        ids = torch.searchsorted(cumulative, (drawn * cumulative[:, -1])[:, None], right=True)[:, 0]
        ids = ids.clamp(max=logits.shape[1] - 1)
    return ids, logps.gather(1, ids[:, None])[:, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A text as it was sampled."""

    tokens: tuple[int, ...]
    """Sampled ids, ``<|im_end|>`` last unless the text was cut; without the leading ``<|im_start|>``."""
    logps: tuple[float, ...]
    """Their log-probs under the masked, tempered distribution."""
    allowed: tuple[tuple[int, ...] | None, ...]
    """Ids each was chosen from; ``None``: the whole vocabulary."""
    is_cut: bool
    """Whether the limit ended the text; the closing ``<|im_end|>`` was then fed, not sampled."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The text's own ids, without markers."""
        return self.tokens if self.is_cut else self.tokens[:-1]


@torch.no_grad()
def decode_text(
    contexts: Contexts,
    rows: Sequence[int],
    uniforms: np.ndarray,
    *,
    temperature: float = 1.0,
    constraints: Sequence[Constraint | None] = (),
) -> list[Decoded]:
    """Continue contexts by one text each, ``<|im_start|>`` and ``<|im_end|>`` included.

    Args:
        contexts: Where the rows lie; afterwards the texts are part of them.
        rows: Distinct contexts.
        uniforms: Numbers in [0, 1), (R, limit): one for each token; the limit includes ``<|im_end|>``. A text
            that has not ended by then is cut: it is closed with an ``<|im_end|>`` that nobody sampled.
        temperature: Of the sampling; 0 is greedy. 1.0 is what log-probs for learning want.
        constraints: One per row, or none.
    """
    end, limit = contexts.tokens.eos_token_id, uniforms.shape[1]
    if limit < 1:
        raise ValueError("Expected room for at least one token, uniforms of shape (rows, limit), got limit 0.")
    texts = _Texts(len(rows), limit, constraints)
    decoder = Decoder(contexts, rows)
    alive = np.arange(len(rows))  # text of each row of the decoder
    is_open = np.ones(len(rows), dtype=bool)
    fed = np.full(len(rows), contexts.tokens.bos_token_id)
    final: Tensor | None = None
    for count in range(limit + 2):
        hidden = decoder.step(torch.from_numpy(fed).to(contexts.device))
        closing = is_open & (fed == end)
        if closing.any():
            final = hidden.new_zeros(len(rows), hidden.shape[1]) if final is None else final
            final[alive[closing]] = hidden[torch.from_numpy(closing)]
            is_open &= ~closing
            if not is_open.any():
                break
        if count == limit:
            fed = np.full(len(alive), end)
            continue
        if 2 * is_open.sum() <= len(alive):  # a copy of the open half is cheaper than running on with the closed
            decoder.keep(np.flatnonzero(is_open).tolist())
            hidden, alive, is_open = hidden[torch.from_numpy(is_open)], alive[is_open], is_open[is_open]
        allowed = texts.allow(alive)
        ids, logps = choose(contexts.model.logits(hidden).float(), uniforms[alive, count], temperature, allowed)
        fed = texts.add(alive, count, ids, logps, allowed)
    decoded = [texts.decoded(i, end) for i in range(len(rows))]
    assert final is not None
    decoder.close(rows, [1 + len(d.tokens) + d.is_cut for d in decoded], list(final))
    return decoded


class _Texts:
    """The record of texts being decoded."""

    def __init__(self, num: int, limit: int, constraints: Sequence[Constraint | None]) -> None:
        self.tokens = np.zeros((num, limit), dtype=np.int64)
        self.logps = np.zeros((num, limit), dtype=np.float32)
        self.allowed: list[list[tuple[int, ...]]] = [[] for _ in range(num)]
        self.constraints = {i: c for i, c in enumerate(constraints) if c is not None}

    def allow(self, alive: np.ndarray) -> list[Allowed | None]:
        """What each of the running texts may go on with; empty where none is constrained any more."""
        sets: dict[int, Allowed] = {}
        for i in list(self.constraints):
            among = self.constraints[i](self.tokens[i, : len(self.allowed[i])].tolist())
            if among is None:
                del self.constraints[i]
            else:
                sets[i] = among
        return [sets.get(i) for i in alive] if sets else []

    def add(
        self, alive: np.ndarray, count: int, ids: Tensor, logps: Tensor, allowed: Sequence[Allowed | None]
    ) -> np.ndarray:
        """Record a token of each running text; returns the ids, int64 (R,)."""
        chosen = ids.cpu().numpy()
        self.tokens[alive, count] = chosen
        self.logps[alive, count] = logps.cpu().numpy()
        for i, among in zip(alive, allowed, strict=False):
            if among is not None:
                self.allowed[i].append(among.ids)
        return chosen

    def decoded(self, i: int, end: int) -> Decoded:
        """The text of row ``i``, up to its first ``<|im_end|>``."""
        tokens = self.tokens[i].tolist()
        length = tokens.index(end) + 1 if end in tokens else len(tokens)
        allowed = self.allowed[i][:length]
        return Decoded(
            tokens=tuple(tokens[:length]),
            logps=tuple(self.logps[i, :length].tolist()),
            allowed=(*allowed, *[None] * (length - len(allowed))),
            is_cut=end not in tokens,
        )
