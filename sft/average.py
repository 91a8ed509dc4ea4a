"""The exponential moving average of the weights in training: what is evaluated and shipped (BAGEL ships its own)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.tensor import DTensor


class Average:
    """Exponential moving average of the trained weights; starts fast so that short runs lose nothing.

    Of weights that are sharded over processes (FSDP2), each process keeps the average of its own shards.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights = {name: p.detach().clone() for name, p in self.live.items()}

    def load(self, weights: Sequence[torch.Tensor]) -> None:
        """Go on from the averages of another process, in the order of ``weights``."""
        for mine, theirs in zip(self.local(), weights, strict=True):
            mine.copy_(theirs)

    def update(self, step: int) -> None:
        """After step ``step``, counted from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.local(), self._live(), share)

    def local(self) -> list[torch.Tensor]:
        """The averages, or this process's shards of them."""
        return [_local(weight) for weight in self.weights.values()]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages for weights inside."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        live, mine = self._live(), self.local()
        kept = [weight.clone() for weight in live]
        torch._foreach_copy_(live, mine)
        torch._foreach_copy_(mine, kept)

    def _live(self) -> list[torch.Tensor]:
        return [_local(p.detach()) for p in self.live.values()]


def _local(weight: torch.Tensor) -> torch.Tensor:
    return weight.to_local() if isinstance(weight, DTensor) else weight
