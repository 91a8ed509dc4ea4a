"""A server for GenEval's detectors: ``python -m strokes.rewards.geneval_server --detector mask2former --port 18085``.

What it speaks is written in ``geneval_http.py``. It has no authentication and is bound to the loopback address unless
told otherwise: put it behind something that has before others can reach it.
"""

import argparse
import base64
import binascii
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .geneval import Detector, Rule
from .geneval_detectors import MiniWorldDetector
from .geneval_http import objects_to
from .geneval_mask2former import CLIP, SEGMENTER, Mask2FormerClip
from .geneval_prompts import parse_entry

LARGEST_BODY = 2**29
"""Bytes: 64 images of 1024² that compress badly, in base64, and a good deal of room."""
LARGEST_SIDE = 8192
"""Pixels: a small file can decode to any size."""
_UNREADABLE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError)


class GenevalServer(ThreadingHTTPServer):
    """A detector that others can reach. ``serve_forever`` runs it, ``shutdown`` ends it.

    Args:
        detector: What looks; one request at a time, for it holds one device.
        name: What it is called.
        host: Address to listen on.
        port: 0 takes a free one; ``server_address`` tells.
    """

    daemon_threads = True

    def __init__(self, detector: Detector, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.detector, self.name, self.turn = detector, name, threading.Lock()

    def describe(self) -> dict[str, Any]:
        """What ``GET /`` gives."""
        return {
            "detector": self.name, "classes": list(self.detector.classes), "rule": asdict(self.detector.rule),
        }  # fmt: skip

    def look(self, body: Any) -> dict[str, Any]:
        """What ``POST /look`` gives.

        Raises:
            ValueError: The request is wrong.
        """
        images, metadata, rule = _asked(body, self.detector.rule)
        with self.turn:
            seen = self.detector.look(images, metadata, rule)
        return {"objects": [objects_to(objects) for objects in seen]}


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: GenevalServer
    timeout = 120  # seconds without a byte: a client that went away does not keep its thread

    def do_GET(self) -> None:
        if self.path == "/":
            self._reply(HTTPStatus.OK, self.server.describe())
        else:
            self._reply(HTTPStatus.NOT_FOUND, {"error": f"Expected GET / or POST /look, got GET {self.path}."})

    def do_POST(self) -> None:
        status, record = HTTPStatus.OK, dict[str, Any]()
        try:
            if self.path != "/look":
                raise ValueError(f"Expected GET / or POST /look, got POST {self.path}.")
            record = self.server.look(self._body())
        except ValueError as error:
            status, record = HTTPStatus.BAD_REQUEST, {"error": str(error)}
        except Exception as error:  # whatever a detector raises: the client is told, the server goes on
            self.log_error("%s: %s", type(error).__name__, error)
            status, record = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"{type(error).__name__}: {error}"}
        self._reply(status, record)

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            self.close_connection = True
            raise ValueError(f"Expected a body of at most {LARGEST_BODY} bytes, got Content-Length {length!r}.")
        try:
            return json.loads(self.rfile.read(int(length)))
        except RecursionError as error:
            raise ValueError("Expected a flat body, got one that is nested too deep.") from error

    def _reply(self, status: HTTPStatus, record: Mapping[str, Any]) -> None:
        data = json.dumps(record).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _asked(body: Any, default: Rule) -> tuple[list[np.ndarray], list[dict[str, Any]], Rule]:
    """Images, metadata and rule of a request."""
    if not isinstance(body, dict) or not isinstance(body.get("images"), list):
        raise ValueError('Expected {"images": [...], "metadata": [...], "rule": {...}}.')
    images, metadata = body["images"], body.get("metadata")
    if not isinstance(metadata, list) or len(metadata) != len(images):
        raise ValueError(f"Expected metadata for each of {len(images)} images, got {metadata!r:.80}.")
    try:
        rule = replace(default, **(body.get("rule") or {}))
    except TypeError as error:
        raise ValueError(f"Expected a rule of {', '.join(asdict(default))}, got {body['rule']!r:.200}.") from error
    decoded = [_image(image, k) for k, image in enumerate(images)]
    return decoded, [parse_entry(json.dumps(meta), f"metadata {k}") for k, meta in enumerate(metadata)], rule


def _image(text: Any, k: int) -> np.ndarray:
    try:
        with Image.open(BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
            if max(image.size) > LARGEST_SIDE:
                raise ValueError(f"Expected image {k} to be at most {LARGEST_SIDE} px wide and high, got {image.size}.")
            return np.asarray(image.convert("RGB"))
    except (*_UNREADABLE, TypeError, binascii.Error) as error:
        raise ValueError(f"Expected image {k} as a PNG in base64, got {error}.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: serves until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m strokes.rewards.geneval_server", description=__doc__)
    parser.add_argument("--detector", choices=("miniworld", "mask2former"), required=True)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; there is no authentication")
    parser.add_argument("--port", type=int, default=18085, help="0 takes a free one")
    parser.add_argument("--segmenter", default=SEGMENTER, help="folder or name on the hub; mask2former only")
    parser.add_argument("--clip", default=CLIP, help="folder or name on the hub; mask2former only")
    parser.add_argument("--device", help="such as cuda:1; by default a GPU if there is one; mask2former only")
    given = parser.parse_args(arguments)
    detector: Detector = MiniWorldDetector()
    if given.detector == "mask2former":
        detector = Mask2FormerClip.load(given.segmenter, given.clip, device=given.device)
    with GenevalServer(detector, given.detector, given.host, given.port) as server:
        host, port = server.server_address[:2]
        print(f"{given.detector} on http://{host!s}:{port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
