"""What a perfect remote model says of the mini-world: the plans and inspections of a painter that makes no mistake."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from strokes.agents.brush import things
from strokes.agents.scripted import Habits, ScriptedPainter
from strokes.agents.scripted_inspection import inspect
from strokes.agents.scripted_session import ScriptedSession, edits_of
from strokes.envs import Emission, Stage, Transcript
from strokes.envs.markup import Inspection, Plan, parse_plan
from strokes.envs.scenes.changes import compare, repairs
from strokes.envs.scenes.language import Report, describe_edits, describe_report
from strokes.envs.scenes.render import SIZE


def decompose(fields: Mapping[str, Any], images: Sequence[np.ndarray]) -> str:
    """The plans of a drawing without mistakes, from the canvas on where there is one: closed sub-graphs that grow."""
    transcript = Transcript(prompt=fields["prompt"], size=len(images[-1]) if images else SIZE)
    painter = ScriptedPainter(Habits(max_images=min(Habits().max_images, fields["max_steps"])))
    session = painter.start(transcript, transcript.size, (0,))
    if images:
        transcript.give(images[-1])
        canvas = session.canvas(images[-1])
        if session.graph is None or not compare(things(canvas), session.aimed(canvas)):
            return "Nothing is left to do.\n```json\n[]\n```"
    while transcript.ended is None:
        error = transcript.record(painter.act([session], [transcript.mask()])[0].emission)
        assert not error, error
    plans = [parse_plan(str(entry.content)) for entry in transcript.accepted if entry.stage is Stage.PLAN]
    return f"Here are the steps:\n```json\n{json.dumps([plan._asdict() for plan in plans])}\n```"


def criticise(fields: Mapping[str, Any], images: Sequence[np.ndarray]) -> str:
    """What the painter says of somebody else's sketch; of one that follows no plan of the language, by the prompt."""
    *before, canvas = images
    transcript = Transcript(prompt=fields["prompt"], size=len(canvas))
    for ins in fields["earlier"]:  # placeholders are announced there
        transcript.record(Emission(Stage.PLAN, str(Plan(ins, "as before"))))
        transcript.record(Emission(Stage.SKETCH, images[0]))
        transcript.record(Emission(Stage.INSPECT, "as before"))
    for image in before:
        transcript.give(image)
    transcript.record(Emission(Stage.PLAN, str(Plan(**fields["plan"]))))
    transcript.record(Emission(Stage.SKETCH, canvas))
    session = ScriptedSession(transcript, transcript.size, np.random.default_rng(0))
    found = inspect(session)
    if session.graph is not None and edits_of(fields["plan"]["ins"]) is None:
        seen = session.canvas(canvas)
        faults = compare(things(seen), session.aimed(seen))
        report = describe_report(Report(faults=faults, complete=not faults))
        found = Inspection(report, describe_edits(repairs(faults)) if faults else None)
    return json.dumps({"analysis": found.comment, "is_right": found.refine is None, "edit": found.refine})
