"""The judge's client against a server that is not ours: `transformers serve`, with a tiny vision-language model.

The model is built from its config with random weights: what it says means nothing, and must be no verdict.
"""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from asked import asked

from strokes.rewards.judge import JudgeClient, JudgeSettings, Price
from strokes.rewards.question import Question, Request

LACKING = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(LACKING), reason=f"transformers serve needs {' and '.join(LACKING)}"),
]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% endif %}\n{% endfor %}assistant: "
)


def build(folder: Path) -> None:
    """A LLaVA of some 50,000 parameters that reads bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={letter: k for k, letter in enumerate(letters)}, merges=[]))
    bytewise.pre_tokenizer, bytewise.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise, eos_token="</s>", pad_token="<pad>", extra_special_tokens={"image_token": "<image>"}
    )
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=image_token, vision_feature_layer=-1)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgeSettings]:
    folder = tmp_path_factory.mktemp("llava")
    build(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield JudgeSettings(
                model=str(folder),
                base_url=f"http://127.0.0.1:{port}/v1",
                prices={str(folder): Price(input=1.0, output=1.0)},
                retries=0,
                chat_tokens=8,
            )
        finally:
            process.terminate()
    shutil.rmtree(folder)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])


def anything(text: str) -> dict[str, int]:
    return {"letters": len(text)}


def test_what_it_babbles_is_read_or_no_verdict(settings):
    (guarded, *_), _ = asked(2)
    question = Question(
        name="say", instructions="Say something.", template="About {prompt}:", read=anything, max_tokens=6
    )
    free = Request(question=question, fields={"prompt": "a circle"}, images=guarded.images)
    with JudgeClient(settings) as client:
        verdicts = client.ask([guarded, free])
        (said,) = client.chat([[{"role": "user", "content": "Hello"}]])
        usage = client.usage
    assert verdicts[0].status == "unparsable" and verdicts[0].attempts == 3, verdicts[0]
    assert verdicts[1].status == "ok" and verdicts[1].completion_tokens > 0, verdicts[1]
    assert verdicts[1].prompt_tokens > 16  # the picture's tokens among them
    assert said is None or said.prompt_tokens > 0
    assert usage.cost and usage.cost > 0


def test_another_model_is_refused_by_name(settings):
    (request, *_), _ = asked(2)
    prices = {"other": Price(input=1.0, output=1.0)}
    with JudgeClient(replace(settings, model="other", prices=prices)) as client:
        (verdict,) = client.ask([request])
    assert verdict.status == "transport" and "other" in verdict.error
