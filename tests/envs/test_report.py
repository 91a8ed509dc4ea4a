"""The HTML page, the contact sheet, the terminal."""

import copy
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from strokes.envs import Emission, Entry, Stage, Transcript, ansi, contact_sheet, strip_escapes
from strokes.envs.filmstrip import ansi_image
from strokes.envs.protocols import Cost
from strokes.envs.report import render_report, write_report

VOID = {"img", "meta"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are balanced."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


def many(transcript, scores):
    result = []
    for k, score in enumerate(scores):
        result.append(copy.deepcopy(transcript))
        result[-1].prompt, result[-1].score = f"prompt {k}", score
    return result


def test_the_page_shows_every_emission_with_its_verdict_and_terms(transcript):
    transcript.interject("A little higher, please.")
    cost = Cost(steps=75, nfe=225, tokens=1210, seconds=3.25)
    page = Page(render_report([transcript], policy="scripted", costs=[cost]))
    assert page.tags.count("img") == 4 and page.tags.count("section") == 2 + 10
    for words in ("un cercle rouge", "星 🎨", "Draw a red circle.", "Make it red.", "to be mended", "stands", "illegal",
                  "Expected INSPECT after SKETCH, got STOP.", "A little higher", "words from outside",
                  "Round 1", "Round 2", "scripted", "1,210", "225", "0.75", "0.50"):  # fmt: skip
        assert words in page.text, words
    assert "–" in page.text  # noqa: RUF001 - the term without a verdict


def test_the_page_stands_alone_and_runs_nothing(transcript):
    page = Page(render_report([transcript]))
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in sources)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "default-src 'none'" in render_report([transcript])


def test_everything_written_by_others_is_escaped():
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\x1b[31mred\x07\u202e\ud800"
    transcript = Transcript(prompt=hostile, size=16, id=hostile, meta={})
    transcript.record(Emission(Stage.PLAN, hostile))
    transcript.record(Emission(Stage.PLAN, "<ins>$style ${body} &amp;</ins><des>b</des>"), source=hostile)
    transcript.emissions[-1].terms = {hostile: 0.5}
    transcript.interject(hostile)
    page = render_report([transcript, transcript], title=hostile, policy=hostile)
    parsed = Page(page)
    assert "script" not in parsed.tags and all(name != "onerror" for name, _ in parsed.attributes)
    assert "$style ${body} &amp;" in parsed.text and "<script>alert(1)" in parsed.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", page)


def test_malformed_words_in_a_record_made_elsewhere_are_shown_as_they_are():
    transcript = Transcript(prompt="x", size=16)
    transcript.emissions = [
        Entry(stage=Stage.PLAN, content="no <tags>"),
        Entry(stage=Stage.INSPECT, content="a<refine>b"),
    ]
    page = Page(render_report([transcript]))
    assert "no <tags>" in page.text and "a<refine>b" in page.text and page.tags.count("pre") == 2


def test_best_and_worst_come_first_and_unjudged_last(transcript):
    page = render_report(many(transcript, [0.5, None, 0.9, 0.1, 0.6, 0.4, 0.8, 0.3, 0.7]))
    order = [int(k) for k in re.findall(r'<details[^>]*id="d(\d)"', page)]
    assert order == [2, 6, 8, 3, 7, 5, 4, 0, 1]
    assert page.index(">Best<") < page.index(">Worst<") < page.index(">The rest<")
    assert page.count("<details open") == 3
    Page(page)


def test_what_is_left_out_of_a_long_report_is_said(transcript):
    page = render_report(many(transcript, [k / 20 for k in range(20)]), limit=8)
    assert page.count("<details") == 8 and "12 drawings in between are left out" in page


def test_an_empty_drawing_has_a_page_and_an_empty_report_has_not(tmp_path):
    empty = Transcript(prompt="x", size=16)
    write_report([empty], tmp_path / "new" / "report.html")
    assert "Nothing was drawn" in (tmp_path / "new" / "report.html").read_text()
    Page(render_report([empty, empty]))
    for arguments, message in [(([],), "at least one"), (([empty],), "costs")]:
        with pytest.raises(ValueError, match=message):
            render_report(*arguments, costs=[Cost(), Cost()])
    with pytest.raises(ValueError, match="limit"):
        render_report([empty], limit=1)


@pytest.mark.parametrize(("size", "sharp"), [(48, True), (64, True), (1024, False)])
def test_small_pictures_are_enlarged_with_sharp_pixels(size, sharp):
    transcript = Transcript(prompt="x", size=size)
    transcript.record((0, "<ins>a</ins><des>b</des>"))
    transcript.record((1, np.zeros((size, size, 3), np.uint8)))
    page = render_report([transcript])
    assert ('class="small"' in page) == sharp and f'width="{size}"' in page
    sheet = contact_sheet(transcript)
    assert sheet.dtype == np.uint8 and sheet.ndim == 3 and 150 < sheet.shape[0] < 400
    assert (sheet.reshape(-1, 3) == 0).all(1).sum() >= 128 * 128


def test_the_contact_sheet_has_one_size_for_one_number_of_cells(transcript):
    shapes = {contact_sheet(transcript.cut(k), num_cells=6).shape for k in range(10)}
    assert len(shapes) == 1
    assert not np.array_equal(contact_sheet(transcript, 2), contact_sheet(transcript.cut(6), 2))


def test_the_terminal_shows_words_without_escapes_and_pictures_in_colour(transcript):
    transcript.interject("\x1b[2J\x1b]8;;http://x\x07link")
    shown = ansi(transcript)
    assert (
        "Make it red." in shown and "illegal" in shown and "(critic)" in shown and "ended by stop, score 0.75" in shown
    )
    assert "\x1b[2J" not in shown and "\x1b]8" not in shown and "link" in shown
    picture = ansi_image(np.full((48, 48, 3), (1, 2, 3), np.uint8), columns=10)
    assert picture.count("\n") == 4 and picture.count("38;2;1;2;3;48;2;1;2;3m▀") == 50


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 星\n\tx", "plain é 星\n\tx"),
        ("a\x1b[1;31mb\x1b[0mc", "abc"),
        ("a\x1b]0;title\x1b\\b\x1b]2;t\x07c\x9d0;t\x9cd", "abcd"),
        ("a\x1bPq#0\x1b\\b\x9b31mc\x1b(Bd\x1bMe", "abcde"),
        ("a\x1b", "a"),
        ("a\x1b[", "a"),
        ("a\r\x08\x00\x7f\x85b\u2066c", "abc"),
        ("a\ud800b", "ab"),
    ],
)
def test_escapes_are_stripped(text, expected):
    assert strip_escapes(text) == expected


def test_stripping_long_hostile_text_is_fast():
    for hostile in ("\x1b]" * 50_000, "\x1b[" * 50_000, "\x1bP" + "x" * 100_000, "\x9b" + "1;" * 50_000):
        assert "\x1b" not in strip_escapes(hostile)
