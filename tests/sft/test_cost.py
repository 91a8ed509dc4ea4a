"""Tokens and floating-point operations of examples."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from strokes.agents.bagel.sequence import pack
from strokes.sft.collator import Collator, ImageTable, Picture, Words
from strokes.sft.cost import num_flops, num_tokens

EXAMPLES = {
    "drawing": (Words(tuple(range(8)), False), Picture(0, loss=True, context=False)),
    "caption": (Picture(0, loss=False, context=True), Words(tuple(range(12)), True)),
    "text": (Words(tuple(range(300, 340)), False, 2), Words(tuple(range(60)), True, 3)),
    "round": (
        Words(tuple(range(20)), False, 1),
        Words(tuple(range(30)), True, 2),
        Picture(0, loss=True, context=True, switch=1),
        Words(tuple(range(15)), True, 2),
        Picture(1, loss=True, context=False, before=0),
    ),
}


@pytest.fixture
def table(nano):
    table = ImageTable()
    for value in (0, 255):
        table.add(np.full((48, 48, 3), value, np.uint8))
    table.latents = torch.zeros(2, 9, nano.config.latent_dim)
    return table


@pytest.mark.parametrize("name", EXAMPLES)
def test_tokens_are_those_of_the_pack(name, table, nano, tokenizer):
    samples = Collator(table=table, copies=3)([EXAMPLES[name]], np.random.default_rng(0))
    assert num_tokens(EXAMPLES[name], 3, nano.config) == len(pack(samples, nano.config, tokenizer.ids).positions)


@pytest.mark.parametrize("name", EXAMPLES)
def test_operations_are_those_that_torch_counts(name, table, nano, tokenizer):
    """Of its matrix products; attention is compared apart, for torch counts masked and padded pairs too."""
    config, example = nano.config, EXAMPLES[name]
    samples = Collator(table=table, copies=2)([example], np.random.default_rng(0))
    nano.vae.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        nano(pack(samples, config, tokenizer.ids)).loss.backward()
    nano.zero_grad()
    products = counter.get_flop_counts()["Global"]
    counted = sum(count for op, count in products.items() if "attention" not in str(op))
    expected = num_flops(example, 2, config) - attention(example, 2, config)
    assert 0.9 < counted / expected < 1.05


def attention(example, copies, config):
    """12 · layers · width for each pair of a token and one that it sees, counted pair by pair."""
    pairs = seen = 0
    for segment in example:
        if isinstance(segment, Words):
            length = len(segment.ids) + 2
            pairs += sum(seen + k + 1 for k in range(length))
            seen += length
            continue
        pairs += segment.loss * copies * 11 * (seen + 11)
        for _ in range(2 * segment.context):
            pairs += 11 * (seen + 11)
            seen += 11
    images = sum(isinstance(s, Picture) and s.context for s in example)
    vit = config.vit_config
    encoder = images * 12 * vit.layers_used * vit.hidden_size * 9 * 9
    return 12 * config.llm_config.num_hidden_layers * config.llm_config.hidden_size * pairs + encoder


def test_the_cost_grows_with_the_copies_and_the_depth(nano):
    config, drawing = nano.config, EXAMPLES["drawing"]
    one, two, three = (num_flops(drawing, copies, config) for copies in (1, 2, 3))
    assert two - one == three - two > 0
    deep = replace(config.llm_config, num_hidden_layers=2 * config.llm_config.num_hidden_layers)
    wide = type(config)(**(config.to_dict() | {"llm_config": deep}))
    assert 1.8 < num_flops(EXAMPLES["text"], 1, wide) / num_flops(EXAMPLES["text"], 1, config) < 2.0
