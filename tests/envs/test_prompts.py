"""Sources of prompts."""

import json
import pickle

import numpy as np
import pytest

from strokes.envs import HubPrompts, JsonlPrompts, ListPrompts, Prompt, Prompts, ScenePrompts, make_prompts


def draws(source, seed, n=8):
    rng = np.random.default_rng(seed)
    return [source.sample(rng) for _ in range(n)]


def test_lists_hold_strings_prompts_and_rows():
    source = ListPrompts(["a", Prompt("b", {"k": 1}), {"prompt": "c", "tag": "t"}])
    assert len(source) == 3 and list(source) == [Prompt("a"), Prompt("b", {"k": 1}), Prompt("c", {"tag": "t"})]
    assert draws(source, 0) == draws(source, 0) and {p.prompt for p in draws(source, 0, 50)} == {"a", "b", "c"}
    for bad in ([], "one prompt"):
        with pytest.raises(ValueError, match="non-empty list"):
            ListPrompts(bad)
    with pytest.raises(ValueError, match=r"prompts\[1\]"):
        ListPrompts(["a", {"text": "b"}])


def test_jsonl_rows_give_prompt_and_meta(tmp_path):
    path = tmp_path / "geneval.jsonl"
    rows = [{"tag": "colors", "include": [{"class": "car"}], "prompt": f"a car {k}\u2028"} for k in range(3)]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n", encoding="utf-8")
    source = make_prompts(str(path))
    assert isinstance(source, JsonlPrompts) and len(source) == 3
    assert source[0] == Prompt(rows[0]["prompt"], {"tag": "colors", "include": [{"class": "car"}]})
    path.write_text('{"prompt": "a"}\n{"prompt": ')
    with pytest.raises(ValueError, match=r"geneval\.jsonl:2"):
        JsonlPrompts(path)
    path.write_text("\n")
    with pytest.raises(ValueError, match="empty file"):
        JsonlPrompts(path)


def test_a_hub_dataset_is_loaded_when_first_used(tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "rows.json").write_text('{"caption": "a", "k": 1}\n{"caption": "b", "k": 2}\n')
    source = HubPrompts("json", column="caption", data_files=str(tmp_path / "rows.json"), cache_dir=str(tmp_path / "c"))
    assert source._rows is None
    assert len(source) == 2 and source[1] == Prompt("b", {"k": 2}) and draws(source, 1) == draws(source, 1)
    assert pickle.loads(pickle.dumps(source))._rows is None
    assert HubPrompts("no/such/dataset").name == "no/such/dataset"


def test_the_mini_world_gives_tasks_without_end():
    source = make_prompts("scenes:train:counting")
    assert isinstance(source, ScenePrompts) and (source.split, source.tag) == ("train", "counting")
    drawn = draws(source, 0, 20)
    assert drawn == draws(source, 0, 20) and len({p.prompt for p in drawn}) > 5
    assert {p.meta["tag"] for p in drawn} == {"counting"}


def test_strings_name_sources():
    assert make_prompts("scenes").split == "train" and make_prompts("scenes:heldout").split == "heldout"
    hub = make_prompts("hub:owner/name:test:caption")
    assert (hub.name, hub.split, hub.column) == ("owner/name", "test", "caption")
    source = ListPrompts(["a"])
    assert make_prompts(source) is source and isinstance(make_prompts(["a"]), Prompts)
    for bad in ("a red circle", "scenes:a:b:c", "hub"):
        with pytest.raises(ValueError, match="goes into a list"):
            make_prompts(bad)
