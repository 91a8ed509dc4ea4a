"""LoRA adapters: low-rank changes of a model's matrices, read from PEFT's folders and merged into plain models.

A matrix W0 (out, in) with the factors A (r, in) and B (out, r) acts as W0 + s·B·A (LoRA, arXiv 2106.09685), where
s = alpha/r, or alpha/sqrt(r) for rank-stabilised adapters (arXiv 2312.03732). A merged model costs nothing more to run;
it differs from the unmerged one by rounding alone. Names are those of the plain model: ``<module>.lora_A.weight``,
``<module>.lora_B.weight``, and the parameter's own name for tensors that replace whole ones.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

FACTOR_A, FACTOR_B = ".lora_A.weight", ".lora_B.weight"
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_UNSUPPORTED = ("use_dora", "lora_bias", "fan_in_fan_out", "alpha_pattern", "use_qalora")
"""Options of PEFT under which the formula above does not hold, or s is not the same for all."""


class Adapter(NamedTuple):
    """What was learnt on top of a model."""

    tensors: Mapping[str, Tensor]
    """Factors, and tensors that replace whole ones."""
    scaling: Mapping[str, float]
    """s of every module that has factors."""


def read_adapter(folder: str | Path) -> Adapter:
    """The adapter in a folder that PEFT, and so training, has written.

    Raises:
        ValueError: A file is missing or damaged, or the adapter is none that can be merged.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"Expected an adapter in {str(folder)!r} ({CONFIG} and {TENSORS}, as training writes them), got {error}."
        ) from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f"Expected {folder / CONFIG} to configure LoRA, got {config!r:.80}.")
    if used := [name for name in _UNSUPPORTED if config.get(name)]:
        raise ValueError(f"Expected plain LoRA in {str(folder)!r}, got one with {', '.join(used)}.")
    named = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    root = math.sqrt if config.get("use_rslora") else float
    modules = {name.removesuffix(FACTOR_A): len(tensor) for name, tensor in named.items() if name.endswith(FACTOR_A)}
    return Adapter(named, {module: config["lora_alpha"] / root(rank) for module, rank in modules.items()})


def check_fit(model: nn.Module, adapter: Adapter) -> None:
    """``ValueError``, saying what does not fit, unless every tensor of ``adapter`` has its place in ``model``."""
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)}
    problems = []
    for module in adapter.scaling:
        a, b = (adapter.tensors.get(f"{module}{factor}") for factor in (FACTOR_A, FACTOR_B))
        if a is None or b is None or a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1]:
            problems.append(f"{module}: expected two factors of one rank")
        elif shapes.get(f"{module}.weight") != (product := (len(b), a.shape[1])):
            problems.append(
                f"{module}: expected a change of {shapes.get(f'{module}.weight', 'no matrix of this model')}, got one "
                f"of {product}"
            )
    for name, tensor in _whole(adapter).items():
        if shapes.get(name) != tuple(tensor.shape):
            problems.append(f"{name}: expected {shapes.get(name, 'no tensor of this name')}, got {tuple(tensor.shape)}")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ValueError(
            f"Expected an adapter of this model, got {'; '.join(problems[:3])}{more}. Load the checkpoint that it was "
            "trained on."
        )


@torch.no_grad()
def merge(model: nn.Module, adapter: Adapter, originals: dict[str, Tensor] | None = None) -> None:
    """Change ``model`` in place, the products computed in float32.

    Args:
        model: Has a place for every tensor; see ``check_fit``.
        adapter: What to merge.
        originals: W0 by parameter name, for models that are merged into again and again: filled when a matrix is
            changed for the first time and read afterwards. Kept in host memory.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for module, scaling in adapter.scaling.items():
        name = f"{module}.weight"
        weight = parameters[name]
        original = weight.detach()
        if originals is not None:
            if name not in originals:
                originals[name] = original.to("cpu", copy=True)
            original = originals[name]
        a, b = (
            adapter.tensors[f"{module}{factor}"].to(weight.device, torch.float32) for factor in (FACTOR_A, FACTOR_B)
        )
        weight.copy_(original.to(weight.device, torch.float32) + scaling * (b @ a))
    for name, tensor in _whole(adapter).items():
        parameters[name].copy_(tensor)


def _whole(adapter: Adapter) -> dict[str, Tensor]:
    """The tensors that replace whole ones."""
    factors = {f"{module}{factor}" for module in adapter.scaling for factor in (FACTOR_A, FACTOR_B)}
    return {name: tensor for name, tensor in adapter.tensors.items() if name not in factors}
