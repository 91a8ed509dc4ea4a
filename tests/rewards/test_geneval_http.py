"""GenEval's detector over HTTP: what comes back, and what happens when nothing does."""

import base64
import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from strokes.envs.scenes import Object, Scene, render
from strokes.rewards.geneval import Rule
from strokes.rewards.geneval_detectors import MiniWorldDetector
from strokes.rewards.geneval_http import HttpDetector
from strokes.rewards.geneval_results import judge_images
from strokes.rewards.geneval_server import GenevalServer

WORLD = MiniWorldDetector()
META = {"tag": "colors", "include": [{"class": "star", "count": 1, "color": "red"}], "prompt": "a red star"}


def star(color):
    return render(Scene((Object("star", color, 32, 32, 9),), 64))


@contextlib.contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def url():
    with running(GenevalServer(WORLD, "miniworld")) as url:
        yield url


@contextlib.contextmanager
def answering(*answers):
    """A server that gives these (status, body) in turn, the last one for ever; ``None`` breaks the connection off."""
    left, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer()

        def do_GET(self):
            asked.append(None)
            self.answer()

        def answer(self):
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer is None:
                self.connection.close()
                return
            self.send_response(answer[0])
            self.end_headers()
            self.wfile.write(answer[1].encode())

        def log_message(self, *_):
            pass

        def handle(self):
            with contextlib.suppress(OSError, ValueError):
                super().handle()

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url, asked


def client(url, **options):
    return HttpDetector(url, **{"rule": WORLD.rule, "retries": 2, "pause": 0.001, "timeout": 5.0, **options})


def plain(seen):
    return [{name: list(map(dataclasses.asdict, found)) for name, found in objects.items()} for objects in seen]


def test_what_is_seen_over_http_is_what_is_seen_at_home(url):
    images = [star(color) for color in ("red", "blue", "green")]
    far, near = HttpDetector(url, batch=2), WORLD
    assert plain(far.look(images, [META] * 3)) == plain(near.look(images, [META] * 3))
    assert (far.classes, far.rule) == (near.classes, near.rule)


def test_results_are_the_same_over_http(url):
    items = [(f"{k}.png", META, star(color)) for k, color in enumerate(("red", "blue"))]
    assert judge_images(HttpDetector(url), items) == judge_images(WORLD, items)


def test_the_rule_travels(url):
    assert HttpDetector(url, rule=Rule(threshold=1.0)).look([star("red")], [META]) == [{}]


def test_what_a_request_leaves_open_is_as_the_detector_has_it():
    class Recording:
        classes, rule = WORLD.classes, WORLD.rule

        def look(self, images, metadata, rule=None):
            self.asked = rule
            return []

    detector = Recording()
    with GenevalServer(detector, "recording") as server:
        server.look({"images": [], "metadata": [], "rule": {"max_overlap": 0.5}})
        assert detector.asked == dataclasses.replace(WORLD.rule, max_overlap=0.5)
        server.look({"images": [], "metadata": []})
        assert detector.asked == WORLD.rule


def test_nothing_is_asked_about_nothing(url):
    assert client(url).look([], []) == []


@pytest.mark.parametrize("failure", [(500, "oops"), (503, ""), (429, "slow down"), None])
def test_a_failure_that_passes_is_overcome(failure):
    with answering(failure, failure, (200, '{"objects": [{}]}')) as (url, asked):
        assert client(url).look([star("red")], [META]) == [{}]
        assert len(asked) == 3


def test_a_failure_that_stays_is_raised_after_the_attempts_allowed():
    with answering((500, '{"error": "out of memory"}')) as (url, asked):
        with pytest.raises(OSError, match="out of memory in each of 3 attempts; start one with"):
            client(url).look([star("red")], [META])
        assert len(asked) == 3


def test_a_server_that_is_down_is_named():
    with pytest.raises(OSError, match=r"a detector at http://127\.0\.0\.1:9, got .*refused"):
        client("http://127.0.0.1:9").look([star("red")], [META])


def test_a_server_that_hangs_is_given_up(url):
    class Hanging(GenevalServer):
        def look(self, body):
            threading.Event().wait(0.5)
            return super().look(body)

    with running(Hanging(WORLD, "hanging")) as slow, pytest.raises(OSError, match="timed out"):
        client(slow, timeout=0.05, retries=1).look([star("red")], [META])


@pytest.mark.parametrize(
    "body",
    ["<html>It works!</html>", "[]", "{}", '{"objects": 3}', '{"objects": []}',
     '{"objects": [{"cup": [{"box": [1]}]}]}',
     '{"objects": [{"cup": [{"box": [0, 0, 1, 1], "score": "x", "color": null}]}]}',
     '{"objects": [{"cup": [{"box": [0, 0, 1, NaN], "score": 0.9, "color": null}]}]}',
     '{"objects": [{"cup": [{"box": [0, 0, 1, 1], "score": 1' + "0" * 400 + ', "color": null}]}]}',
     '{"objects": [{"cup": [{"box": ["0", 0, 1, 1], "score": 0.9, "color": null}]}]}',
     '{"objects": [{"cup": [{"box": [0, 0, 1, 1], "score": 0.9, "color": ["red"]}]}]}',
     '{"objects": [{"cup": [{"box": [0, 0, 1, 1], "score": true, "color": null}]}]}',
     '{"objects": [{"cup": {"box": [0, 0, 1, 1], "score": 0.9, "color": null}}]}',
     '{"objects": [{"star": [{"box": [0, 0, 1, 1], "score": 0.9, "color": null}]}]}'],
)  # fmt: skip
def test_another_server_is_recognised_at_once(body):
    with answering((200, body)) as (url, asked):
        with pytest.raises(OSError, match=f"Expected .* {url}"):
            client(url).look([star("red")], [META])
        assert len(asked) == 1


def test_a_colour_that_nobody_needs_may_be_missing():
    seen = '{"star": [{"box": [0, 0, 9, 9], "score": 0.9, "color": null}]}'
    meta = {"tag": "single_object", "include": [{"class": "star", "count": 1}], "prompt": "a star"}
    with answering((200, f'{{"objects": [{seen}]}}')) as (url, _):
        assert client(url).look([star("red")], [meta])[0]["star"][0].color is None


@pytest.mark.parametrize(
    "told",
    [{}, {"classes": "star", "rule": {}}, {"classes": ["star", 3], "rule": {}}, {"classes": ["star"]},
     {"classes": ["star"], "rule": []}, {"classes": ["star"], "rule": {"treshold": 0.3}},
     {"classes": ["star"], "rule": {"threshold": "0.3"}}, {"classes": ["star"], "rule": {"threshold": None}}],
)  # fmt: skip
def test_a_server_that_describes_itself_wrongly_is_named(told):
    with answering((200, json.dumps(told))) as (url, _):
        with pytest.raises(OSError, match=f"Expected a detector.* {url}"):
            client(url, rule=None).look([star("red")], [META])


def test_what_the_server_refuses_is_not_asked_again(url):
    with pytest.raises(ValueError, match="tag among"):
        client(url).look([star("red")], [{**META, "tag": "colour"}])
    with pytest.raises(ValueError, match="sides of at least 16"):
        client(url).look([np.zeros((8, 8, 3), np.uint8)], [META])


def post(url, body, path="/look"):
    request = urllib.request.Request(url + path, body if isinstance(body, bytes) else json.dumps(body).encode())
    with pytest.raises(urllib.error.HTTPError) as caught, urllib.request.urlopen(request, timeout=5):
        pass
    with caught.value as reply:
        return reply.code, json.loads(reply.read())["error"]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{", "Expecting"),
        (b"\x80\x04pickle", "decode"),
        (b"[" * 100_000, "nested too deep"),
        ([], "Expected"),
        ({"images": [], "metadata": [META]}, "metadata for each of 0 images"),
        ({"images": ["!"], "metadata": [META]}, "image 0 as a PNG"),
        ({"images": [7], "metadata": [META]}, "image 0 as a PNG"),
        ({"images": [base64.b64encode(b"GIF89a").decode()], "metadata": [META]}, "image 0 as a PNG"),
        ({"images": [], "metadata": [], "rule": {"treshold": 0.3}}, "a rule of threshold"),
        ({"images": [], "metadata": [], "rule": {"max_objects": 0}}, "max_objects"),
        ({"images": [], "metadata": [], "rule": {"max_objects": True}}, "max_objects"),
        ({"images": [], "metadata": [], "rule": {"crop": "0"}}, "crop"),
        ({"images": [], "metadata": [], "rule": {"threshold": None}}, "threshold"),
        ({"images": [], "metadata": [], "rule": 3}, "a rule of threshold"),
    ],
)
def test_wrong_requests_are_answered_with_what_is_wrong(url, body, complaint):
    code, error = post(url, body)
    assert code == 400 and complaint in error


def test_other_paths_are_none(url):
    assert post(url, {}, "/detect")[0] == 400
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(url + "/favicon.ico", timeout=5)


def test_a_detector_that_fails_does_not_take_the_server_with_it(capfd):
    class Failing:
        classes, rule = WORLD.classes, WORLD.rule
        is_broken = True

        def look(self, images, metadata, rule=None):
            if self.is_broken:
                raise RuntimeError("out of memory")
            return WORLD.look(images, metadata, rule)

    failing = Failing()
    with running(GenevalServer(failing, "failing")) as url:
        with pytest.raises(OSError, match="RuntimeError: out of memory"):
            client(url).look([star("red")], [META])
        failing.is_broken = False
        assert list(client(url).look([star("red")], [META])[0]) == ["star"]


@pytest.mark.parametrize(
    "wrong",
    [{"url": "localhost:80"}, {"url": "http://"}, {"url": "http://:80"}, {"url": "http://localhost:99999"},
     {"url": "http://localhost:x"}, {"url": "http://localhost:0"}, {"url": "http://[::1"}, {"batch": 0},
     {"retries": -1}],
)  # fmt: skip
def test_options_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=f"Expected {next(iter(wrong))}"):
        HttpDetector(**{"url": "http://localhost", **wrong})


def test_the_command_serves_until_it_is_stopped():
    command = [sys.executable, "-m", "strokes.rewards.geneval_server", "--detector", "miniworld", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]
            assert url.startswith("http://127.0.0.1:")
            assert HttpDetector(url).classes == WORLD.classes
        finally:
            process.terminate()
