"""Attack a service that returns only labels, has a limited rate, and sometimes fails.

    python examples/attack_a_service.py

The service here is `baseline` behind a local server that rejects every fourth request. For your own service, write a
function like `classify`. From the shell:

    bench attack --models blackbox:FILE.py:classify --attack foolbox:HopSkipJumpAttack --budgets 100 --max-queries 100
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import torch

import framebench


def classify(images: np.ndarray) -> list[int]:
    """Query the service: images float32 [n, H, W, 3] in [0, 1] to n labels. If this raises, the call is retried."""
    body = json.dumps(np.round(images, 4).tolist()).encode()
    with urllib.request.urlopen(os.environ["SERVICE"], body, timeout=30) as answer:
        labels: list[int] = json.load(answer)
    return labels


# Settings: the default of `answers` is logits; without `rate` (calls per second) the function is called at full speed.
classify.answers, classify.classes, classify.rate, classify.backoff = "labels", 10, 50, 0.1  # type: ignore[attr-defined]


class Service(BaseHTTPRequestHandler):
    """A stand-in for the service."""

    model, requests = framebench.load_model("baseline"), itertools.count(1)

    def do_POST(self) -> None:  # noqa: N802, the name that http.server calls
        """Answer or reject a request."""
        images = torch.tensor(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(503 if next(self.requests) % 4 == 0 else 200)
        self.end_headers()
        with torch.inference_mode():
            self.wfile.write(json.dumps(self.model(images.permute(0, 3, 1, 2)).argmax(1).tolist()).encode())


if __name__ == "__main__":
    Service.log_message = lambda *_: None  # type: ignore[method-assign, assignment]
    server = HTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["SERVICE"] = f"http://127.0.0.1:{server.server_port}"
    results = framebench.attack(
        f"blackbox:{__file__}:classify", domain="samples", n=5, attack="foolbox:HopSkipJumpAttack", epsilon=8,
        budgets=[10, 40], max_queries=40)
    print(results.attack[["model", "unit", "budget", "n_correct", "asr", "queries_mean"]].to_string(index=False))
