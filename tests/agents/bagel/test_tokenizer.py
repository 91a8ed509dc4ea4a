"""The tokenizer: missing special tokens, and special strings in ordinary text."""

import json
import shutil

import pytest

from strokes.agents.bagel import Tokenizer

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")


@pytest.fixture
def without_markers(golden, tmp_path):
    """The golden tokenizer files with every added token but the first three removed, and its old size."""
    for path in golden.checkpoint.glob("*"):
        if path.name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(path, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    kept = sorted(config["added_tokens_decoder"], key=int)[:3]
    names = [config["added_tokens_decoder"][i]["content"] for i in kept]
    config["added_tokens_decoder"] = {i: config["added_tokens_decoder"][i] for i in kept}
    config["additional_special_tokens"] = [t for t in config["additional_special_tokens"] if t in names]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    data["added_tokens"] = [t for t in data["added_tokens"] if str(t["id"]) in kept]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    return tmp_path, names, int(kept[-1]) + 1


def test_missing_special_tokens_are_appended(without_markers):
    path, names, size = without_markers
    tokenizer = Tokenizer.load(path)
    missing = [t for t in SPECIAL if t not in names]
    assert tokenizer.num_added == len(missing) and len(tokenizer) == size + len(missing)
    ids = tokenizer.ids
    by_name = dict(
        zip(SPECIAL, (ids.bos_token_id, ids.eos_token_id, ids.start_of_image, ids.end_of_image), strict=True)
    )
    assert [by_name[t] for t in missing] == list(range(size, size + len(missing)))
    assert tokenizer.encode("a<|vision_start|>b")[1] == ids.start_of_image


def test_special_strings_can_be_ordinary_text(golden):
    tokenizer = golden.tokenizer
    special = {tokenizer.base.convert_tokens_to_ids(t) for t in tokenizer.base.get_added_vocab()}
    text = f"draw {''.join(SPECIAL)} <|im_end|>x"
    assert special & set(tokenizer.encode(text))
    ids = tokenizer.encode(text, special=False)
    assert not special & set(ids) and tokenizer.decode(ids) == text
    assert tokenizer.encode("a red circle", special=False) == tokenizer.encode("a red circle")


def test_a_saved_tokenizer_is_the_same(golden, tmp_path):
    golden.tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.ids == golden.tokenizer.ids and len(again) == len(golden.tokenizer)
    for example in golden.case("tok").params["examples"]:
        assert again.encode(example["text"]) == example["ids"]


def test_a_folder_without_tokenizer_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="copy the tokenizer files"):
        Tokenizer.load(tmp_path)
