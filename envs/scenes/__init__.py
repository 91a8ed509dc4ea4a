"""The exact mini-world: eight shapes in eight colours, described, drawn, seen and judged without error.

graph      Graph(Node, Edge): what a prompt asks for; canonical hash, nested sub-graphs, GenEval metadata
words, language    parse, describe, parse_edits, describe_edits, parse_report, describe_report, VOCABULARY
layout     sample_layout(graph, rng, size) -> Layout(scene, cells, nodes); PLACES, relative_position
changes    Thing, Edit, Fault; apply, compare, repairs, missing, plan_faults, graph_of, things_of
tasks      sample_task(rng), heldout(), verdict(detections, meta), split_of(graph)
knowledge  knowledge_items(split, limit), item_of(prompt): prompts that take facts
render     render(scene) -> uint8 (size, size, 3)
detect     what is on a canvas
"""

from .graph import Edge, Graph, Node
from .language import VOCABULARY, describe, parse, supported
from .layout import PLACES, Layout, sample_layout
from .render import COLORS, SHAPES, SIZE, Object, Scene, render
from .tasks import Task, Verdict, heldout, sample_task, split_of, verdict

__all__ = [
    "COLORS", "PLACES", "SHAPES", "SIZE", "VOCABULARY", "Edge", "Graph", "Layout", "Node", "Object", "Scene", "Task",
    "Verdict", "describe", "heldout", "parse", "render", "sample_layout", "sample_task", "split_of", "supported",
    "verdict",
]  # fmt: skip
