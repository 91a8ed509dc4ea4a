"""Weights on their way from the learner to those who draw, and the checks that they arrived.

What travels is what is learnt: the factors of LoRA, or all tensors that learn. It carries a version, the number of the
generation it was collected for, and a checksum. A worker draws with one version at a time, says which, and refuses
tensors that changed on the way, that belong to another model, or two different ones of the same version.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..agents.adapter import FACTOR_A, FACTOR_B, Adapter, check_fit, merge
from ..agents.bagel.model import Bagel

_PREFIX, _SAVED = "base_model.model.", "modules_to_save."
_PROBE = 16
"""Numbers of each matrix by which a base model is recognised; a model trained otherwise differs in all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a learner has learnt so far."""

    version: int
    """Number of the generation that is drawn with it."""
    kind: Literal["lora", "full"]
    """Factors to be merged, or whole tensors."""
    tensors: dict[str, Tensor]
    """float32 on the CPU, sharing nothing with the learner; names are those of the plain model."""
    scaling: dict[str, float] = field(default_factory=dict)
    """Scale of every module's factors."""
    base: str = ""
    """Fingerprint of the matrices that the factors belong to; empty for whole tensors."""
    checksum: str
    """SHA-256 of everything but the version."""

    @property
    def adapter(self) -> Adapter:
        """As what is merged."""
        return Adapter(self.tensors, self.scaling)


def collect(model: nn.Module, version: int) -> Weights:
    """Copies of what ``model`` learns.

    Args:
        model: A ``PeftModel`` around a ``Bagel``, or a ``Bagel``; not one wrapped by DDP.
        version: Number of the generation that will be drawn with it.

    Raises:
        ValueError: Nothing learns, or an adapter is more than two factors (DoRA, biases).
    """
    layers = _lora_layers(model)
    tensors = {
        name: parameter.detach().to("cpu", torch.float32, copy=True) for name, parameter in _learnt(model).items()
    }
    if not tensors:
        raise ValueError("Expected a model with parameters that learn, got none that requires a gradient.")
    scaling = {module: float(layer.scaling[layer.active_adapters[0]]) for module, layer in layers.items()}
    kind: Literal["lora", "full"] = "lora" if layers else "full"
    matrices = {f"{module}.weight": layer.get_base_layer().weight for module, layer in layers.items()}
    base = _fingerprint(matrices) if layers else ""
    checksum = _checksum(kind, tensors, scaling, base)
    return Weights(version=version, kind=kind, tensors=tensors, scaling=scaling, base=base, checksum=checksum)


def blended(old: Weights, new: Weights, share: float, is_blended: Callable[[str], bool]) -> Weights:
    """``new``, with tensors of some names an average: ``share`` of ``old``, the rest of ``new``."""
    tensors = {
        name: share * old.tensors[name] + (1 - share) * tensor if is_blended(name) else tensor
        for name, tensor in new.tensors.items()
    }
    return replace(new, tensors=tensors, checksum=_checksum(new.kind, tensors, new.scaling, new.base))


class Receiver:
    """A worker's own model, into which one version after another is installed."""

    def __init__(self, model: Bagel) -> None:
        """Args:

        model: A plain model, loaded from the checkpoint that learning started from; changed in place.
        """
        self.model = model
        self.version: int | None = None
        self._kind: str | None = None
        self._originals: dict[str, Tensor] = {}
        self._seen: dict[int, str] = {}  # version: checksum

    def install(self, weights: Weights) -> int:
        """Make the model that of ``weights``; its version.

        An older version may come again after a newer one: a chunk of a lost worker is redone with its own weights.

        Raises:
            ValueError: Tensors that do not fit this model, of another base, of another kind than those before, that
                changed on the way, or that differ from those of the same version.
        """
        self._check(weights)
        self.version = None  # whatever happens below, nothing is drawn with half a model
        current = {f"{module}.weight" for module in weights.scaling}
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name in self._originals.keys() - current:
                parameters[name].copy_(self._originals[name])
        merge(self.model, weights.adapter, self._originals)
        self._kind, self._seen[weights.version] = weights.kind, weights.checksum
        self.version = weights.version
        return self.version

    def _check(self, weights: Weights) -> None:
        actual = _checksum(weights.kind, weights.tensors, weights.scaling, weights.base)
        if actual != weights.checksum:
            raise ValueError(
                f"Expected weights of version {weights.version} with checksum {weights.checksum[:12]}, got "
                f"{actual[:12]}: they changed on their way."
            )
        if self._seen.setdefault(weights.version, actual) != actual:
            raise ValueError(f"Expected one set of weights of version {weights.version}, got a second, different one.")
        if self._kind not in (None, weights.kind):
            raise ValueError(f"Expected weights of kind {self._kind!r} as before, got {weights.kind!r}.")
        check_fit(self.model, weights.adapter)
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        names = [f"{module}.weight" for module in weights.scaling]
        matrices = {name: self._originals[name] if name in self._originals else parameters[name] for name in names}
        if weights.scaling and _fingerprint(matrices) != weights.base:
            raise ValueError(
                "Expected adapters of the checkpoint that this worker loaded, got those of other weights; give learner "
                "and workers the same policy.path and policy.dtype."
            )


@contextmanager
def swapped(model: nn.Module, weights: Weights) -> Iterator[None]:
    """The learner with ``weights`` in place of its own, for as long as the block runs.

    Args:
        model: The one that ``weights`` were collected from, or its equal.
        weights: From ``collect``.

    Raises:
        ValueError: The weights are not of this model.
    """
    learnt = _learnt(model)
    if {n: tuple(p.shape) for n, p in learnt.items()} != {n: tuple(t.shape) for n, t in weights.tensors.items()}:
        raise ValueError(
            f"Expected weights with the {len(learnt)} tensors that this model learns, got {len(weights.tensors)} "
            "others."
        )
    kept = {name: parameter.detach().clone() for name, parameter in learnt.items()}
    try:
        _put(learnt, weights.tensors)
        yield
    finally:
        _put(learnt, kept)


@torch.no_grad()
def _put(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _lora_layers(model: nn.Module) -> dict[str, Any]:
    """The adapted modules by their names in the plain model; none if the model has no adapters."""
    from peft.tuners.lora import LoraLayer

    layers = {n.removeprefix(_PREFIX): m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    for name, layer in layers.items():
        (adapter, *more) = layer.active_adapters
        plain = isinstance(layer.get_base_layer(), nn.Linear) and adapter in layer.lora_A
        if more or not plain or layer.lora_variant.get(adapter) or layer.lora_bias.get(adapter):
            raise ValueError(f"Expected one plain LoRA adapter on matrices, got another kind on {name}.")
    return layers


def _learnt(model: nn.Module) -> dict[str, nn.Parameter]:
    """What learns: both factors of every adapter, and whatever else requires a gradient."""
    learnt: dict[str, nn.Parameter] = {}
    for module, layer in _lora_layers(model).items():
        for factor, parts in ((FACTOR_A, layer.lora_A), (FACTOR_B, layer.lora_B)):
            learnt[f"{module}{factor}"] = parts[layer.active_adapters[0]].weight
    factors = set(map(id, learnt.values()))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in factors:
            learnt[_plain(name)] = parameter
    return learnt


def _plain(name: str) -> str:
    """``base_model.model.llm2vae.modules_to_save.default.weight`` is ``llm2vae.weight``."""
    head, saved, tail = name.removeprefix(_PREFIX).replace(".base_layer.", ".").partition(_SAVED)
    return head + tail.partition(".")[2] if saved else head


def _fingerprint(matrices: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and the first numbers of matrices, as float32."""
    digest = hashlib.sha256()
    for name in sorted(matrices):
        matrix = matrices[name].detach()
        probe = matrix.reshape(-1)[:_PROBE].to("cpu", torch.float32)
        digest.update(f"{name} {tuple(matrix.shape)} ".encode())
        digest.update(probe.numpy().tobytes())
    return digest.hexdigest()


def _checksum(kind: str, tensors: Mapping[str, Tensor], scaling: Mapping[str, float], base: str) -> str:
    digest = hashlib.sha256(f"{kind} {base} {sorted(scaling.items())}".encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f" {name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
