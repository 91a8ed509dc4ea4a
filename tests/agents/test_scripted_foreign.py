"""The painter over somebody else's sketches keeps its mind about what the prompt leaves open."""

import numpy as np

from strokes.agents.scripted import ScriptedPainter
from strokes.envs import Emission, Stage
from strokes.envs.scenes.render import Object, Scene, render
from strokes.envs.transcript import Transcript


def test_a_corrected_foreign_sketch_is_not_undone():
    painter = ScriptedPainter()
    for seed in range(20):
        transcript = Transcript(prompt="two circles", size=48)
        transcript.record(Emission(Stage.PLAN, "<ins>add a red circle at the left</ins><des>a red circle</des>"))
        transcript.record(Emission(Stage.SKETCH, render(Scene((Object("circle", "purple", 8.0, 24.0, 6.0),), 48))))
        session = painter.start(transcript, 48, (seed,))
        while transcript.ended is None:
            error = transcript.record(painter.act([session], [transcript.mask()])[0].emission)
            assert not error
        texts = [entry.content for entry in transcript.emissions if isinstance(entry.content, str)]
        assert texts[1].endswith("<refine>change the purple circle at the left to red</refine>")
        assert not any(text.startswith("<ins>change") for text in texts)
        assert np.array_equal(transcript.images[-1], transcript.canvas) and len(transcript.images) == 3
