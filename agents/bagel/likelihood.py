"""Log-probs of tokens under what they were drawn from: masked, then tempered, as in ``generate.choose``."""

import torch
from torch import Tensor

from .sequence import CrossEntropy


def log_probs(logits: Tensor, ce: CrossEntropy, *, wants_entropy: bool = False) -> tuple[Tensor, Tensor | None]:
    """Log-probs of labels.

    Args:
        logits: float32 (C, V), of the tokens that predict.
        ce: Their labels, temperatures and allowed ids.
        wants_entropy: Whether to return entropies too.

    Returns:
        Log-probs float32 (C,), and the entropies of the distributions in nats, (C,) without gradient, or ``None``.
    """
    if ce.allowed:
        bias = torch.full((len(ce.allowed), logits.shape[1]), float("-inf"), device=logits.device)
        for row, (_, ids) in zip(bias, ce.allowed, strict=True):
            row[list(ids)] = 0
        places = torch.tensor([place for place, _ in ce.allowed], device=logits.device)
        logits = logits.index_add(0, places, bias)
    log_p = torch.log_softmax(logits / ce.temperatures[:, None], dim=-1)
    entropy = torch.special.entr(log_p.detach().exp()).sum(-1) if wants_entropy else None
    return log_p.gather(1, ce.labels[:, None])[:, 0], entropy
