"""The scripted painter's eye: is the plan true to the prompt, is the sketch true to the plan?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..envs.markup import Inspection, parse_plan
from ..envs.scenes.changes import Edit, Fault, Thing, apply, compare, filled, missing, plan_faults, repairs
from ..envs.scenes.language import NOT_JUDGED, Report, describe_edits, describe_report
from ..envs.stages import Stage
from ..envs.transcript import Transcript
from .brush import things
from .scripted_session import ScriptedSession, applicable, edits_of


def inspect(session: ScriptedSession) -> Inspection:
    """What is to be said of the last image, with the correction where one is needed."""
    if session.graph is None:
        return Inspection(NOT_JUDGED)
    accepted = session.transcript.accepted
    at = max(k for k, entry in enumerate(accepted) if entry.stage is Stage.PLAN)
    canvas = session.canvas(session.transcript.canvas)
    seen, before = things(canvas), things(session.canvas(_image_before(session.transcript, accepted[at])))
    edits = applicable(before, edits_of(parse_plan(str(accepted[at].content)).ins))
    held, goal = session.placeholders(), session.aimed(canvas)
    wanted = filled(apply(before, edits), seen) if edits else seen
    against = plan_faults(before, wanted, session.graph, held)
    if against:
        correction = _correction(seen, goal, held, against)
        if correction:
            return Inspection(describe_report(Report(faults=against)), describe_edits(correction))
    faults = compare(seen, wanted)
    if faults:
        return Inspection(describe_report(Report(faults=faults)), describe_edits(repairs(faults)))
    complete = not compare(seen, goal)
    pending = tuple(thing for thing in seen if thing in held)
    lacking = missing([thing for thing in seen if thing not in held], session.graph)
    return Inspection(describe_report(Report(complete=complete, missing=lacking, pending=pending)))


def _image_before(transcript: Transcript, plan: object) -> np.ndarray | None:
    """The canvas when a plan was written."""
    k = next(k for k, entry in enumerate(transcript.emissions) if entry is plan)
    return replace(transcript, emissions=transcript.emissions[:k]).canvas


def _correction(
    seen: Sequence[Thing], goal: Sequence[Thing], held: Sequence[Thing], against: Sequence[Fault]
) -> tuple[Edit, ...]:
    """What turns the canvas of a wrong plan into a part of the goal: lost things come back, the rest can wait."""
    lost = [(f.wanted.shape, f.wanted.color) for f in against if f.kind == "dropped" and f.wanted]
    faults = []
    for fault in compare(seen, goal):
        back = fault.wanted is not None and (fault.wanted.shape, fault.wanted.color) in lost
        if fault.seen not in held and (fault.kind != "missing" or back):
            faults.append(fault)
    return repairs(faults)
