"""What ``rl.trainer`` uses of TRL's private methods, pinned: an upgrade that moves any of it fails here first."""

import ast
import inspect
import textwrap

import pytest
import torch
import trl
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler, shuffle_sequence_dict, split_tensor_dict

from strokes.rl.trainer import StrokesTrainer

OVERRIDDEN = {
    "_generate": ["self", "prompts"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_prepare_inputs": ["self", "generation_batch"],
    "_compute_loss": ["self", "model", "inputs"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
}


def _source(name: str) -> str:
    return textwrap.dedent(inspect.getsource(inspect.unwrap(getattr(GRPOTrainer, name))))


def test_the_version_is_the_pinned_one():
    assert trl.__version__.split(".")[:2] == ["1", "16"]


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_overridden_methods_keep_their_parameters(name):
    theirs = inspect.signature(inspect.unwrap(getattr(GRPOTrainer, name)))
    assert list(theirs.parameters) == OVERRIDDEN[name]
    assert getattr(StrokesTrainer, name) is not getattr(GRPOTrainer, name)


def test_log_probs_are_asked_for_by_position_and_keyword_as_before():
    theirs = list(inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters)
    assert theirs[:7] == [
        *("self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy")
    ]
    returned = next(n for n in ast.walk(ast.parse(_source("_get_per_token_logps_and_entropies"))) if _is_return(n))
    assert len(returned.value.elts) == 3


def _is_return(node: ast.AST) -> bool:
    return isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple)


def test_generate_returns_eight_things():
    returned = [n for n in ast.walk(ast.parse(_source("_generate"))) if _is_return(n)]
    assert [[e.id for e in n.value.elts] for n in returned] == [
        [
            "prompt_ids",
            "completion_ids",
            "tool_mask",
            "completions",
            "logprobs",
            "extra_fields",
            "images",
            "tool_images",
        ]
    ]


def test_the_loss_reads_the_keys_that_we_give():
    source = _source("_compute_loss")
    for key in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "num_items_in_batch"):
        assert f'inputs["{key}"]' in source
    assert 'inputs.get("old_per_token_logps")' in source and 'inputs["ref_per_token_logps"]' in source
    assert "if advantages.dim() == 1" in source  # advantages may be (B, T)


def test_generations_come_every_so_many_micro_steps_and_are_buffered():
    source = _source("_prepare_inputs")
    assert "generate_every = self.args.steps_per_generation * self.num_iterations" in source
    assert "self._step % generate_every == 0 or self._buffered_inputs is None" in source
    assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in source


def test_lists_are_shuffled_and_split_with_the_tensors_and_scalars_are_kept():
    batch = {"x": torch.arange(8), "trajectories": list("abcdefgh"), "count": torch.tensor(3.0)}
    parts = split_tensor_dict(shuffle_sequence_dict(batch), 2)
    for part in parts:
        assert [ord(c) - ord("a") for c in part["trajectories"]] == part["x"].tolist()
        assert part["count"] == 3


def test_unshuffled_the_sampler_takes_prompts_in_order_and_members_together():
    order = list(RepeatSampler(range(5), mini_repeat_count=3, batch_size=2, repeat_count=2, shuffle=False))
    generation = [0, 0, 0, 1, 1, 1]
    assert order == [*generation, *generation, *[2 + k for k in generation], *[2 + k for k in generation]]
