"""From transcripts to items: what is context, what is learnt, and what is drawn anew each time."""

import numpy as np
import pytest
import torch

from strokes.agents.bagel.items import NoisyImage, Text, VaeImage, VitImage
from strokes.agents.bagel.sequence import pack
from strokes.envs.markup import neutralise
from strokes.envs.stages import Emission, Stage
from strokes.envs.transcript import Transcript
from strokes.sft.collator import Collator, ImageTable, Picture, Words, from_transcript

PROMPT = "a red circle"
PLAN = "<ins>add a red circle at the left</ins><des>a red circle</des>"
WRONG = "the sketch shows a blue circle at the left instead of a red circle<refine>change it to red</refine>"
RIGHT = "the sketch follows the plan and the prompt is complete"


def image(value):
    return np.full((48, 48, 3), value, np.uint8)


@pytest.fixture
def transcript():
    """A round whose sketch fails and is corrected, a critic's words, a second round, the end."""
    transcript = Transcript(prompt=PROMPT, size=48)

    def record(stage, content="", **options):
        assert not transcript.record(Emission(stage, content), **options)

    record(Stage.PLAN, PLAN)
    record(Stage.SKETCH, image(10), loss=False)
    record(Stage.INSPECT, WRONG)
    record(Stage.REFINE, image(20))
    assert transcript.record(Emission(Stage.SKETCH, image(30))), "illegal after an image"
    transcript.interject("keep it <ins> round")
    record(Stage.PLAN, PLAN)
    record(Stage.SKETCH, image(40))
    record(Stage.INSPECT, RIGHT)
    record(Stage.STOP)
    return transcript


@pytest.fixture
def table():
    """Six images with latents of 9 tokens and 4 channels."""
    table = ImageTable()
    for k in range(6):
        table.add(image(k))
    table.latents = torch.randn(6, 9, 4, generator=torch.Generator().manual_seed(0))
    return table


def noisy(items):
    return [(k, item) for k, item in enumerate(items) if isinstance(item, NoisyImage)]


def test_a_trajectory_says_what_bears_loss_and_which_switch_is_learnt(transcript, tokenizer):
    table, ids = ImageTable(), tokenizer.ids
    drawn, said, end = ids.start_of_image, ids.bos_token_id, ids.eos_token_id

    def words(text, loss, switch):
        return Words(tuple(tokenizer.encode(text)), loss, switch)

    assert from_transcript(transcript, tokenizer, table) == (
        words(PROMPT, False, said),
        words(PLAN, True, None),  # what follows, a failed sketch, is not learnt
        Picture(0, loss=False, context=True, before=None, switch=said),
        words(WRONG, True, drawn),
        Picture(1, loss=True, context=True, before=0, switch=None),  # then somebody else speaks
        words(neutralise("keep it <ins> round"), False, said),
        words(PLAN, True, drawn),
        Picture(2, loss=True, context=True, before=1, switch=said),
        words(RIGHT, True, end),
    )
    assert [row[0, 0, 0] for row in table.images] == [10, 20, 40], "the illegal image is left out"


def test_special_strings_in_a_prompt_are_ordinary_text(tokenizer):
    transcript = Transcript(prompt="<|im_start|> a star <ins></ins>", size=48)
    (words,) = from_transcript(transcript, tokenizer, ImageTable())
    special = {i for text in ("<|im_start|>", "<ins>", "</ins>") for i in tokenizer.encode(text)}
    assert not special & set(words.ids) and words.switch is None and not words.loss


def test_an_image_with_nothing_after_it_is_not_context(tokenizer):
    transcript = Transcript(prompt=PROMPT, size=48)
    transcript.record(Emission(Stage.PLAN, PLAN))
    transcript.record(Emission(Stage.SKETCH, image(1)))
    *_, last = from_transcript(transcript, tokenizer, ImageTable())
    assert last == Picture(0, loss=True, context=False, before=None, switch=None)


def test_a_person_s_sketch_is_learnt_only_where_the_record_says_so(tokenizer):
    transcript = Transcript(prompt=PROMPT, size=48)
    transcript.record(Emission(Stage.PLAN, PLAN), source="human", loss=False)
    transcript.record(Emission(Stage.SKETCH, image(1)))
    prompt, plan, _ = from_transcript(transcript, tokenizer, ImageTable())
    assert prompt.switch is None and not plan.loss and plan.switch == tokenizer.ids.start_of_image


def test_the_pack_predicts_the_learnt_texts_and_switches_and_nothing_else(transcript, tokenizer, nano):
    table = ImageTable()
    example = from_transcript(transcript, tokenizer, table)
    table.latents = torch.zeros(len(table.images), 9, nano.config.latent_dim)
    (items,) = Collator(table=table, copies=2)([example], np.random.default_rng(0))
    packed = pack([items], nano.config, tokenizer.ids)
    end = tokenizer.ids.eos_token_id
    expected = []
    for segment in example:
        if isinstance(segment, Words) and segment.loss:
            expected += [*segment.ids, end]
        expected += [] if segment.switch is None else [segment.switch]
    assert packed.ce.labels.tolist() == expected
    assert len(packed.targets) == 9 * 2 * 2, "two copies of each of the two learnt images"


def test_images_become_copies_and_context(table):
    example = (
        Words((1, 2), False, 7),
        Picture(0, loss=False, context=True, switch=8),
        Words((3,), True),
        Picture(1, loss=True, context=True, before=0, switch=9),
        Picture(2, loss=True, context=False, before=1),
    )
    (items,) = Collator(table=table, copies=3)([example], np.random.default_rng(0))
    kinds = [Text, VaeImage, VitImage, Text, *[NoisyImage] * 3, VaeImage, VitImage, *[NoisyImage] * 3]
    assert [type(item) for item in items] == kinds
    assert [item.switch for item in items if isinstance(item, Text | VitImage)] == [7, 8, None, 9]
    assert [item.loss for item in items if isinstance(item, Text)] == [False, True]
    assert torch.equal(items[4].latent, table.latents[1]) and torch.equal(items[7].latent, table.latents[1])
    assert torch.equal(items[8].pixels, torch.full((3, 48, 48), 1 / 127.5 - 1))


@pytest.mark.parametrize(("last", "all_", "sees"), [(0.0, 0.0, (None, None)), (1.0, 0.0, (0, 4)), (0.0, 1.0, (0, 0))])
def test_dropped_copies_see_what_comes_before_the_last_text_or_nothing(table, last, all_, sees):
    example = (
        Words((1,), False),
        Picture(0, loss=True, context=True),
        Words((2,), False),
        Picture(1, loss=True, context=False),
    )
    collator = Collator(table=table, copies=1, drop_last_text=last, drop_all=all_)
    (items,) = collator([example], np.random.default_rng(0))
    assert isinstance(items[4], Text) and [item.sees for _, item in noisy(items)] == list(sees)


def test_conditions_are_dropped_as_often_as_asked(table):
    example = (Words((1,), False), Words((2,), False), Words((3,), False), Picture(0, loss=True, context=False))
    collator = Collator(table=table, copies=2000, drop_last_text=0.3, drop_all=0.1)
    (items,) = collator([example], np.random.default_rng(0))
    sees = [item.sees for _, item in noisy(items)]
    assert abs(sees.count(2) - 600) < 80 and abs(sees.count(0) - 200) < 60


def test_times_are_standard_normal_one_in_each_stratum(table):
    examples = [(Words((1,), False), Picture(k % 6, loss=True, context=False)) for k in range(40)]
    batch = Collator(table=table, copies=5)(examples, np.random.default_rng(0))
    times = torch.tensor([item.t for items in batch for _, item in noisy(items)], dtype=torch.float64)
    strata = (torch.special.ndtr(times) * 200).floor().int().tolist()
    assert sorted(strata) == list(range(200))
    assert strata != sorted(strata), "no image gets all the easy ones"
    assert abs(times.mean()) < 0.02 and abs(times.std() - 1) < 0.02


def test_what_changed_weighs_more(table):
    table.latents = torch.zeros(2, 9, 4)
    table.latents[1, 0] = 1.0  # wholly changed: mean square 1
    table.latents[1, 1] = 0.5  # half: mean square .25
    example = (
        Picture(0, loss=True, context=True),
        Picture(1, loss=True, context=False, before=0),
    )
    (items,) = Collator(table=table, copies=1, changed_weight=3.0)([example], np.random.default_rng(0))
    first, second = (item.weight for _, item in noisy(items))
    assert first == 1.0 and torch.allclose(second, torch.tensor([4.0, 2.5, *[1.0] * 7]))
    (items,) = Collator(table=table, copies=1, changed_weight=0.0)([example], np.random.default_rng(0))
    assert [item.weight for _, item in noisy(items)] == [1.0, 1.0]


def test_the_same_generator_gives_the_same_items(table):
    example = (Words((1,), False), Picture(1, loss=True, context=False, before=0))
    collator = Collator(table=table)
    first, second = (
        [(item.t, item.sees) for _, item in noisy(collator([example], np.random.default_rng(3))[0])] for _ in "ab"
    )
    assert first == second


def test_a_first_sketch_is_never_drawn_from_the_prompt_alone(table):
    example = (Words((1,), False), Words((2,), False), Picture(0, loss=True, context=False))
    (items,) = Collator(table=table, copies=200, drop_last_text=0.9)([example], np.random.default_rng(0))
    assert {item.sees for _, item in noisy(items)} == {0, None}
