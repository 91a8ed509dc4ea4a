"""The record, and the one place that judges legality."""

import copy
import pickle

import numpy as np
import pytest

from strokes.envs import Emission, Ending, InvalidContent, Score, Stage, Transcript


def test_a_legal_script_is_accepted_to_the_end(transcript, script):
    assert [entry.stage for entry in transcript.accepted] == [emission.stage for emission in script]
    assert transcript.ended is Ending.STOP and transcript.legal() == frozenset() and not transcript.mask().any()
    assert [len(group) for group in transcript.rounds] == [5, 4]
    assert np.array_equal(transcript.canvas, script[5].content) and len(transcript.images) == 3
    assert transcript.spent == 9


def test_illegal_emissions_stay_in_the_record_and_change_nothing():
    transcript = Transcript(prompt="x", size=16)
    error = transcript.record(Emission(Stage.SKETCH, np.zeros((16, 16, 3), np.uint8)))
    assert error == "Expected PLAN after the prompt, got SKETCH."
    assert "Expected '<ins>" in transcript.record(Emission(Stage.PLAN, "draw something"))
    assert "at most 5 characters" in transcript.record((Stage.PLAN, "<ins>a</ins><des>b</des>"), max_chars=5)
    assert transcript.record((0, "<ins>a</ins><des>b</des>"), error="The text was cut.") == "The text was cut."
    assert len(transcript.emissions) == 4 and not any(entry.loss for entry in transcript.emissions)
    assert transcript.canvas is None and transcript.accepted == [] and transcript.legal() == {Stage.PLAN}


def test_errors_say_what_may_follow_an_inspection(transcript):
    assert (
        transcript.cut(4).record((Stage.STOP, "")) == "Expected PLAN or REFINE after INSPECT with <refine>, got STOP."
    )
    after_good = transcript.cut(8)
    blank = np.zeros((48, 48, 3), np.uint8)
    assert "after INSPECT without <refine>, got REFINE" in after_good.record((Stage.REFINE, blank))
    assert "the episode ended by stop" in transcript.record((Stage.PLAN, "x"))


@pytest.mark.parametrize(
    ("emission", "message"),
    [
        ((Stage.SKETCH, np.zeros((16, 16, 3), np.float32)), "dtype uint8, got float32"),
        ((Stage.SKETCH, np.zeros((16, 16), np.uint8)), r"shape \(48, 48, 3\), got \(16, 16\)"),
        ((Stage.SKETCH, "words"), "NumPy array as the content of SKETCH, got str"),
        ((Stage.PLAN, 3), "str as the content of PLAN, got int"),
        ((7, "x"), "stage of 0 to 4"),
        ("x", "stage of 0 to 4"),
    ],
)
def test_content_of_a_wrong_kind_is_the_callers_mistake(emission, message):
    transcript = Transcript(prompt="x", size=48)
    with pytest.raises(InvalidContent, match=message):
        transcript.record(emission)
    assert issubclass(InvalidContent, ValueError) and transcript.emissions == []


def test_images_are_copied(script):
    transcript, image = Transcript(prompt="x", size=48), script[1].content.copy()
    transcript.record(script[0])
    transcript.record(Emission(Stage.SKETCH, image))
    image[:] = 0
    assert np.array_equal(transcript.canvas, script[1].content)


def test_equality_looks_at_pixels_words_and_terms(transcript):
    for twin in (copy.deepcopy(transcript), pickle.loads(pickle.dumps(transcript))):
        assert twin == transcript
        twin.emissions[1].content[0, 0, 0] ^= 1
        assert twin != transcript
    other = copy.deepcopy(transcript)
    other.emissions[1].terms = {"sketch": 0.5}
    assert other != transcript and transcript != "something else"


def test_a_cut_is_open_unjudged_and_independent(transcript):
    cut = transcript.cut(4)
    assert cut.ended is None and cut.score is None and cut.id == "" and len(cut.emissions) == 4
    cut.emissions[0].source = "human"
    cut.record((Stage.REFINE, transcript.images[0]))
    assert transcript.emissions[0].source == "policy" and len(transcript.emissions) == 9
    for k in (-1, 10):
        with pytest.raises(ValueError, match="between 0 and 9"):
            transcript.cut(k)


def test_an_edit_cuts_what_follows_and_has_to_be_legal(transcript):
    edited = transcript.edit(3, "It stands.")
    assert len(edited.emissions) == 4 and edited.emissions[3].source == "human"
    assert edited.legal() == {Stage.PLAN, Stage.STOP}
    with pytest.raises(ValueError, match=r"Emission 0 cannot be edited .* Expected '<ins>"):
        transcript.edit(0, "no plan")
    with pytest.raises(ValueError, match="k between"):
        transcript.edit(9, "x")


def test_words_from_outside_do_not_move_the_grammar(transcript):
    open_ = transcript.cut(2)
    before = (open_.legal(), open_.spent)
    open_.interject("<ins>Do this</ins> <|im_end|>")
    assert (open_.legal(), open_.spent) == before
    words = open_.emissions[-1]
    assert words.source == "critic" and words.outside and not words.loss and "<ins>" not in words.content
    assert "<ins>" not in open_.edit(2, "<ins>Other</ins>").emissions[2].content


def test_a_corrected_plan_belongs_to_its_round(transcript, script):
    corrected = transcript.cut(4)
    corrected.record(script[0])
    corrected.record(script[1])
    assert [len(group) for group in corrected.rounds] == [6]
    assert Transcript(prompt="x", size=16).rounds == []


def test_grades_go_beside_the_emissions(transcript):
    steps = [{"k": float(k)} for k in range(len(transcript.emissions))]
    transcript.grade(Score(total=1.0, terms={"strict": 1.0}, steps=steps))
    assert transcript.emissions[2].terms == {"k": 2.0}
    assert transcript.emissions[-1].terms == {"k": 8.0, "strict": 1.0} and transcript.score == 1.0
    with pytest.raises(ValueError, match="terms for 9 emissions, got 1"):
        transcript.grade(Score(total=None, steps=[{}]))
