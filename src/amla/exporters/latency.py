"""How long one image takes on this machine, in ONNX Runtime: what a deployed network will be felt by."""

from __future__ import annotations

import statistics
import time

import numpy as np

from amla.exporters.base import Model
from amla.exporters.onnx import onnx_model
from amla.spec.graph import weights

#: Runs that are left out, and runs that are timed: at least so many, and until so many seconds are used.
WARM_UP, RUNS, SECONDS = 3, 20, 0.2


def latency_ms(model: Model, threads: int = 1) -> float:
    """Milliseconds of one image, the median of several runs, on ``threads`` CPU threads.

    It does not depend on the values of the weights, so they need not be trained: ones stand in for them.
    """
    import onnxruntime

    graph = model.graph().inference()
    ones = {weight.name: np.ones(weight.shape, np.float32) for weight in weights(graph)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    proto = onnx_model(model, ones).SerializeToString()
    session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    feed = {"images": np.zeros((1, *graph.input_shape), np.float32)}
    for _ in range(WARM_UP):
        session.run(["logits"], feed)
    times: list[float] = []
    while len(times) < RUNS or sum(times) < SECONDS:
        began = time.perf_counter()
        session.run(["logits"], feed)
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)
