"""The same convolutional kernels by neural-tangents, in an environment of its own: asked line by line.

Started by convolutional.py with the Python of that environment; leftout is not installed there. Each
line of standard input is JSON, {"name", "network", "left", "right", "rows", "columns", "values"}, the
images files of numpy, (n, h, w, c). Each answer is a line too: seconds, of the clock and of processors,
and values if asked.
"""

import json
import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_ENABLE_X64"] = "1" if sys.argv[1] == "float64" else "0"

import jax
import numpy as np
from neural_tangents import stax


def kernel(network):
    """Return the compiled tangent kernel of a network without bias."""
    layers = []
    deviation = network["weight_variance"] ** 0.5
    last = len(network["stride"]) - 1
    for place, stride in enumerate(network["stride"]):
        layers.append(stax.Conv(1, (3, 3), (stride, stride), "SAME", W_std=deviation, b_std=0.0))
        if network["last_relu"] or place < last:
            layers.append(stax.Relu())
    layers.append(stax.Flatten() if network["pooling"] == "flatten" else stax.GlobalAvgPool())
    layers.append(stax.Dense(1, W_std=deviation, b_std=0.0))
    _, _, function = stax.serial(*layers)
    return jax.jit(lambda left, right: function(left, right, "ntk"))


def main():
    known = {}
    print(json.dumps({"jax": jax.__version__, "devices": str(jax.devices())}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["name"] not in known:
            images = (np.load(asked[side]).astype(sys.argv[1]) for side in ("left", "right"))
            known[asked["name"]] = kernel(asked["network"]), [jax.device_put(one) for one in images]
        function, (left, right) = known[asked["name"]]
        left, right = left[: asked["rows"]], right[: asked["columns"]]
        began = time.perf_counter(), time.process_time()
        values = function(left, right).block_until_ready()
        answer = {"seconds": time.perf_counter() - began[0], "processor": time.process_time() - began[1]}
        if asked["values"]:
            answer["values"] = np.asarray(values).tolist()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
