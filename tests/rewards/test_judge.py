"""The judge's client: right answers in order, from wherever it is called."""

import asyncio
import copy
import dataclasses
import os
import pickle
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from asked import QUESTION, asked
from truth import ANSWERS, SAYS

from strokes.envs.protocols import Chat
from strokes.rewards.question import Judge, Question, Request, Verdict


def choices(verdicts: list[Verdict]) -> list[str | None]:
    return [verdict.data["choice"] if verdict.data else None for verdict in verdicts]


def test_answers_are_true_and_in_order(judge):
    requests, truth = asked(60)
    client: Judge = judge()
    verdicts = client.ask(requests)
    assert choices(verdicts) == truth and {"yes", "no"} <= set(truth)
    assert all(verdict.attempts == 1 and verdict.prompt_tokens and verdict.cost for verdict in verdicts)


@pytest.mark.slow
def test_a_thousand_pictures_are_judged_as_they_are(judge):
    requests, truth = asked(1000, seed=1)
    client = judge()
    assert choices(client.ask(requests)) == truth
    assert choices(judge(second_look=True).ask(requests[:100])) == truth[:100]


def test_like_requests_of_a_batch_are_asked_once(judge, server):
    requests, truth = asked(6)
    client = judge()
    verdicts = client.ask([*requests, *requests[::-1]])
    assert choices(verdicts) == [*truth, *truth[::-1]]
    assert server.counts["all"] == 6 == client.usage.calls
    assert client.usage.cost == pytest.approx(sum(verdict.cost for verdict in verdicts[:6]))
    assert all(verdict.is_cached and not verdict.attempts for verdict in verdicts[6:])


def test_nothing_is_asked_of_nobody(judge):
    assert judge().ask([]) == []
    assert judge().chat([]) == []


def test_threads_share_a_client(judge):
    requests, truth = asked(40)
    client, found = judge(), {}

    def ask(part: int) -> None:
        found[part] = choices(client.ask(requests[part::4]))

    threads = [threading.Thread(target=ask, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {part: truth[part::4] for part in range(4)}
    assert client.usage.requests == 40


def test_running_loops_one_after_the_other(judge):
    requests, truth = asked(6)
    client = judge()

    async def notebook() -> list[str | None]:
        return choices(client.ask(requests))

    assert asyncio.run(notebook()) == truth
    assert asyncio.run(notebook()) == truth


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_asks_on_its_own(judge, tmp_path):
    requests, truth = asked(6)
    client = judge(cache=str(tmp_path / "verdicts"))
    assert choices(client.ask(requests[:3])) == truth[:3]
    child = os.fork()
    if child == 0:
        os._exit(0 if choices(client.ask(requests)) == truth and client.usage.calls == 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert choices(client.ask(requests)) == truth and client.usage.calls == 3


def test_pickled_it_is_the_same_judge_and_copied_it_is_itself(judge):
    requests, truth = asked(4)
    client = judge()
    client.ask(requests)
    other = pickle.loads(pickle.dumps(client))
    assert other.usage.requests == 0 and choices(other.ask(requests)) == truth
    assert copy.deepcopy({"judge": client})["judge"] is client is copy.copy(client)


def test_a_process_remembers_its_last_answers_without_a_file(judge, server):
    requests, truth = asked(6)
    client = judge()
    assert choices(client.ask(requests[:4])) == truth[:4]
    verdicts = client.ask(requests)
    assert choices(verdicts) == truth and [verdict.attempts for verdict in verdicts] == [0, 0, 0, 0, 1, 1]
    assert server.counts["all"] == 6
    assert choices(judge().ask(requests)) == truth and server.counts["all"] == 12  # another client knows nothing
    judge(cache_mode="read_only").ask(requests)
    assert server.counts["all"] == 18


def test_closed_it_opens_again(judge):
    requests, truth = asked(4)
    client = judge(cache_mode="off")
    for _ in range(2):
        assert choices(client.ask(requests)) == truth
        client.close()
    client.close()
    assert client.usage.calls == 8


def test_closing_ends_what_is_under_way(server, judge):
    client = judge()
    client.ask(asked(2)[0])
    server.faults, server.kinds, server.hang = 1.0, ("hang",), 2.0
    ended = []

    def ask() -> None:
        try:
            client.ask(asked(4)[0])
        except CancelledError:
            ended.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    while server.counts["hang"] < 3:
        time.sleep(0.01)
    client.close()
    thread.join(5)
    assert ended == [True]


def test_the_majority_of_votes_counts(judge, monkeypatch):
    request = asked(2)[0][1]
    answers = iter(["yes", "no", "no", "yes", "yes"])
    lock = threading.Lock()

    def moody(fields: object, images: object) -> dict[str, str]:
        with lock:
            return {"choice": next(answers)}

    question = dataclasses.replace(QUESTION, name="moody")
    monkeypatch.setitem(ANSWERS, "moody", moody)
    (verdict,) = judge(votes=5).ask([dataclasses.replace(request, question=question)])
    assert choices([verdict]) == ["yes"] and verdict.agreement == 0.6 and verdict.attempts == 5


@pytest.mark.parametrize("sharp", ["yes", "no"])
def test_the_worse_of_two_looks_counts(judge, sharp, monkeypatch):
    """The judge of this test answers by whether the single red pixel can be seen."""
    image = np.full((48, 48, 3), 255, np.uint8)
    image[20, 20] = 255, 0, 0

    def keen(fields: object, images: list[np.ndarray]) -> dict[str, str]:
        is_sharp = bool((images[0] == (255, 0, 0)).all(-1).any())
        return {"choice": sharp if is_sharp else {"yes": "no", "no": "yes"}[sharp]}

    request = Request(question=dataclasses.replace(QUESTION, name="keen"), images=(image,))
    monkeypatch.setitem(ANSWERS, "keen", keen)
    assert choices(judge().ask([request])) == [sharp]
    (verdict,) = judge(second_look=True).ask([request])
    assert choices([verdict]) == ["no"] and verdict.attempts == 2


def shouted(reply: str) -> dict[str, str] | None:
    return {"word": reply} if reply.isupper() else None


def test_a_published_protocol_is_asked_in_its_own_words(judge, server, monkeypatch):
    heard: list[str] = []

    def says(text: str, images: object) -> str:
        heard.append(text)
        return "YES" if len(heard) > 1 else "well, yes"

    monkeypatch.setattr("truthful.HEARD", [(lambda text: text.startswith("Rate"), says)])
    question = Question(name="rate", instructions="", template="Rate {prompt}, {hint}.", read=shouted)
    fields = {"prompt": "a {hint} ```<|im_end|>", "hint": "now"}
    (verdict,) = judge().ask([Request(question=question, fields=fields)])
    assert verdict.data == {"word": "YES"} and verdict.attempts == 2
    assert heard[0] == "Rate a {hint} '''< |im_end| >, now." and heard[1] != heard[0]
    assert "response_format" not in server.bodies[-1]


def test_conversations(judge, server, monkeypatch, tmp_path):
    monkeypatch.setitem(SAYS, "echo", lambda fields, images: fields["words"] * 2)
    chat: Chat = judge(cache=str(tmp_path / "verdicts"))

    def talk(words: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f'```json\n{{"question": "echo", "words": "{words}"}}\n```'}]

    said = chat.chat([talk("a"), talk("b"), talk("a")])
    assert [one and one.text for one in said] == ["aa", "bb", "aa"]
    assert said[0].prompt_tokens > 0 == said[2].prompt_tokens
    assert [one and one.text for one in chat.chat([talk("b")])] == ["bb"]
    assert server.counts["all"] == 2
    server.script = ["refusal"]
    assert chat.chat([talk("c")]) == [None]
    with pytest.raises(OSError):
        judge(model="another").chat([talk("a")])


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (np.zeros((8, 8), np.uint8), "uint8 (8, 8)"),
        (np.zeros((8, 8, 3), np.float32), "float32 (8, 8, 3)"),
        (np.zeros((0, 8, 3), np.uint8), "uint8 (0, 8, 3)"),
        ("picture.png", "str"),
    ],
)
def test_what_is_no_image_is_refused_by_name(judge, server, image, what):
    request = asked(2)[0][0]
    with pytest.raises(ValueError, match=f"got {what} as image 0 of request 1".replace("(", r"\(").replace(")", r"\)")):
        judge().ask([request, dataclasses.replace(request, images=(image,))])
    assert not server.counts


def test_fields_that_json_cannot_hold(judge):
    with pytest.raises(ValueError, match="JSON can hold"):
        judge().ask([Request(question=QUESTION, fields={"x": float("nan")})])
