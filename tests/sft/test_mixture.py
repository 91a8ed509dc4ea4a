"""Examples of every kind: deterministic, free of held-out prompts, kept in one file."""

import numpy as np
import pytest
import torch

from strokes.envs.markup import parse_inspection, parse_plan
from strokes.envs.scenes.language import parse
from strokes.envs.scenes.tasks import TAGS, sample_graph, split_of
from strokes.sft.collator import ImageTable, Picture, Words
from strokes.sft.mixture import KINDS, Builder, encode_latents, read_examples, write_examples


@pytest.fixture
def builder(tokenizer):
    return Builder(tokenizer, ImageTable(), 48)


def content(examples, table):
    """Examples with images in the place of rows."""
    return [
        [
            s
            if isinstance(s, Words)
            else (table.images[s.row].tobytes(), s.before is None, s.loss, s.context, s.switch)
            for s in example
        ]
        for example in examples
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_depends_on_seed_kind_and_number_alone(kind, builder, tokenizer):
    alone = content(builder.build(kind, 2, 3), builder.table)
    other = Builder(tokenizer, ImageTable(), 48)
    other.build("caption", 2, 3)
    assert content(other.build(kind, 3, 3), other.table)[:2] == alone
    assert content(other.build(kind, 2, 4), other.table) != alone


@pytest.mark.parametrize(("kind", "num"), [("draw", 150), ("plan", 100), ("trajectory", 80)])
def test_no_prompt_is_held_out(kind, num, builder, tokenizer):
    prompts = [tokenizer.decode(example[0].ids) for example in builder.build(kind, num, 0)]
    assert {split_of(parse(prompt)) for prompt in prompts} == {"train"}
    assert {parse(prompt).tag for prompt in prompts} == set(TAGS)


def test_held_out_prompts_would_have_been_noticed():
    rng = np.random.default_rng(0)
    splits = [split_of(sample_graph(tag, rng)) for tag in TAGS for _ in range(30)]
    assert 10 < splits.count("heldout") < 100


def test_a_drawing_is_a_prompt_and_an_image(builder, tokenizer):
    for prompt, picture in builder.build("draw", 5, 0):
        assert parse(tokenizer.decode(prompt.ids)) and not prompt.loss
        assert picture == Picture(picture.row, loss=True, context=False)


def test_an_edit_is_shown_told_and_drawn(builder, tokenizer):
    examples = builder.build("edit", 12, 0)
    for *shown, plan, target in examples:
        assert parse_plan(tokenizer.decode(plan.ids)) and not plan.loss
        assert target == Picture(target.row, True, False, before=shown[0].row if shown else None)
        assert all(picture == Picture(picture.row, loss=False, context=True) for picture in shown)
        if shown:
            assert (builder.table.images[target.row] != builder.table.images[shown[0].row]).any()
    assert {len(example) for example in examples} == {2, 3}, "some start on an empty canvas"


def test_a_fix_learns_the_inspection_and_only_the_corrected_image(builder, tokenizer):
    corrected = 0
    for example in builder.build("fix", 20, 0):
        pictures = [segment for segment in example if isinstance(segment, Picture)]
        *_, inspection = (segment for segment in example if isinstance(segment, Words))
        wrong = parse_inspection(tokenizer.decode(inspection.ids)).refine is not None
        assert inspection.loss and [s.loss for s in example if isinstance(s, Words)].count(True) == 1
        assert [p.loss for p in pictures].count(True) == wrong
        if wrong:
            assert pictures[-1] == Picture(pictures[-1].row, True, False, before=pictures[-2].row)
        corrected += wrong
    assert 4 < corrected < 16


def test_captions_plans_and_trajectories_learn_what_is_said(builder, tokenizer):
    ((picture, caption),) = builder.build("caption", 1, 0)
    assert picture.context and not picture.loss and caption.loss and parse(tokenizer.decode(caption.ids))
    ((prompt, plan),) = builder.build("plan", 1, 0)
    assert prompt.switch == tokenizer.ids.bos_token_id and plan.loss and parse_plan(tokenizer.decode(plan.ids)).ins
    ends = [example[-1].switch for example in builder.build("trajectory", 5, 0)]
    assert ends == [tokenizer.ids.eos_token_id] * 5


def test_latents_are_encoded_once(builder, nano):
    builder.build("draw", 3, 0)
    table = builder.table
    encode_latents(nano, table, batch=2)
    first = table.latents.clone()
    builder.build("draw", 2, 1)
    table.latents += 1  # known latents are not looked at again
    encode_latents(nano, table)
    assert torch.equal(table.latents[:3], first + 1) and len(table.latents) == 5
    expected = nano.encode_images(torch.stack([table.pixels(row) for row in range(5)]))
    assert torch.allclose(torch.cat([first, table.latents[3:]]), expected, atol=1e-5)


def test_a_mixture_survives_its_file(builder, nano, tmp_path):
    examples = {kind: builder.build(kind, 2, 0) for kind in KINDS}
    encode_latents(nano, builder.table)
    path = tmp_path / "folder" / "data.pt"
    write_examples(path, builder.table, examples)
    table, again = read_examples(path)
    assert again == examples and torch.equal(table.latents, builder.table.latents)
    assert np.array_equal(np.stack(table.images), np.stack(builder.table.images))
    assert [each.name for each in path.parent.iterdir()] == ["data.pt"]


def test_a_mixture_of_texts_needs_no_images(builder, nano, tmp_path):
    examples = {"plan": builder.build("plan", 2, 0)}
    encode_latents(nano, builder.table)
    write_examples(tmp_path / "data.pt", builder.table, examples)
    table, again = read_examples(tmp_path / "data.pt")
    assert again == examples and table.images == []


def test_an_unknown_kind_is_refused(builder):
    with pytest.raises(ValueError, match="draw, edit, fix, caption, plan, talk, trajectory, got 'words'"):
        builder.build("words", 1, 0)
