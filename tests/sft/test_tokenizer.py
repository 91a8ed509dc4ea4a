"""The tokenizer of the tiny models."""

import unicodedata

import numpy as np
import pytest

from strokes.agents.bagel import Tokenizer
from strokes.agents.scripted import TEACHING, demonstrate
from strokes.envs.scenes.language import VOCABULARY
from strokes.envs.scenes.tasks import sample_task
from strokes.sft.tokenizer import SPECIAL, TAGS, build_tokenizer


def language(num):
    """Prompts, plans and inspections of drawings with errors and detours."""
    rng = np.random.default_rng(0)
    for _ in range(num):
        transcript = demonstrate(sample_task(rng), rng, habits=TEACHING)
        yield from [transcript.prompt, *(str(e.content) for e in transcript.emissions if not e.stage.is_image)]


def test_every_word_is_one_token_wherever_it_stands(tokenizer):
    for word in VOCABULARY:
        for before in ("", " "):
            assert len(tokenizer.encode(f"{before}{word}")) == 1, (before, word)
        assert len(tokenizer.encode(f"<ins>{word}</ins>")) == 3, word
    assert len({tuple(tokenizer.encode(f" {word}")) for word in VOCABULARY}) == len(VOCABULARY)


def test_texts_of_the_language_are_as_long_as_their_words_and_come_back_as_they_were(tokenizer):
    for text in language(8):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        words = text
        for mark in (*TAGS, ",", ";", ":"):
            words = words.replace(mark, f" {mark} ")
        assert len(ids) == len(words.split()), text


@pytest.mark.parametrize(
    "text", ["naïve café", "日本語の絵", "🎨 ${x}\n\n  two  spaces", "x=y, 'z'\t\x00", "e\u0301te\u0301", ""]
)
def test_any_other_text_falls_back_to_bytes(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == unicodedata.normalize("NFC", text)


def test_the_files_are_read_like_those_of_the_full_size(tokenizer, tokenizer_folder, tmp_path):
    assert tokenizer.num_added == 0, "every special token is there"
    for token in (*SPECIAL, *TAGS):
        assert len(tokenizer.encode(token)) == 1, token
    ids = tokenizer.ids
    named = (ids.bos_token_id, ids.eos_token_id, ids.start_of_image, ids.end_of_image)
    assert [tokenizer.decode([i]) for i in named] == list(SPECIAL[1:])
    assert {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"} <= {
        path.name for path in tokenizer_folder.iterdir()
    }
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    for text in language(2):
        assert again.encode(text) == tokenizer.encode(text)
    assert len(again) == len(tokenizer)


def test_the_same_texts_make_the_same_tokenizer(tokenizer, tokenizer_folder, tmp_path):
    assert build_tokenizer(tmp_path) == len(tokenizer) < 1024
    for path in tokenizer_folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
