"""What does a convolutional kernel cost, beside neural-tangents and against the floor?

    python -m venv .venv-peers && .venv-peers/bin/pip install "jax[cpu]==0.5.3" "neural-tangents==0.6.5"
    python benchmarks/convolutional.py --peers .venv-peers/bin/python
    python benchmarks/convolutional.py --peers .venv-peers/bin/python --only flat --dry

The pins are those of the extra `peers`: newer versions of jax do not load neural-tangents 0.6.5, and older
ones are slower. It gets the block of images that suits it best of those tried, compiled and warm. Both take
turns; ratios are of medians. On a busy machine threads of either wait for each other: read the load beside.

Floor of a pair, a layer and a position (of one image where positions are not compared, of two where a
mean follows): an arc tangent and a square root, and at least 16 multiplications and additions: 8 for
windows of 3 x 3 on K and on T, taken along one axis and then the other; one for the scale and one for
T + K; 6 around the angle. Strides and displacements at the border are counted as they are. Rates are
those of torch on arrays that a cache holds, one thread, times the threads. Bytes: nothing but the images,
16 c h w a pair at most, and 8 for the result; a tile stays in the cache.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measure import data_folder, record, seconds

import leftout as lo

PAPER = {"stride": [1, 1, 1, 2, 1, 2, 1], "pooling": "flatten", "weight_variance": 1.0, "last_relu": False}
DEEP = {"stride": [1] * 8, "pooling": "flatten", "weight_variance": 2.0, "last_relu": True}

CASES = {
    # network, side of an image, images of either side here, blocks that neural-tangents is tried with
    "flat: paper, 32 x 32": (PAPER, 32, 64, (4, 16, 32, 64)),
    "flat: 8 convolutions, 32 x 32": (DEEP, 32, 48, (4, 8, 16, 32)),
    "mean: 8 convolutions, 12 x 12": (DEEP | {"pooling": "mean"}, 12, 16, (2, 4, 8)),
    "mean: 8 convolutions, 32 x 32": (DEEP | {"pooling": "mean"}, 32, 4, (1, 2)),
}


def images(side, count):
    """Return images of CIFAR-10 where they are at hand, cut to their middle; random ones elsewhere."""
    folder = data_folder()
    if folder is None:
        draw = torch.Generator().manual_seed(0)
        return "random", torch.randn(count, 3, side, side, generator=draw, dtype=torch.float64)
    train, _ = lo.load(folder / "cifar10.zip", n_train=max(count, 200), n_query=20, seed=0)
    start = (32 - side) // 2
    return "cifar10", train.inputs.double()[:count, :, start : start + side, start : start + side]


class Peer:
    """A process of neural-tangents."""

    def __init__(self, python, dtype, threads):
        settings = {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("peer_kernels.py")), dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | settings,
        )
        self.about = json.loads(self.process.stdout.readline())

    def ask(self, **asked):
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def network_kernel(network):
    """Return ours."""
    return lo.kernels.ConvReLU(
        len(network["stride"]),
        stride=tuple(network["stride"]),
        pooling=network["pooling"],
        weight_variance=network["weight_variance"],
        last_relu=network["last_relu"],
    )


def positions(network, side):
    """Return at how many positions, or pairs of them, there is a convolution and a ReLU."""
    convolved = rectified = 0
    steps = [int(np.prod(network["stride"][place + 1 :])) for place in range(len(network["stride"]))]
    for place, stride in enumerate(network["stride"]):
        side = -(-side // stride)
        count = side**2
        if network["pooling"] == "mean":
            # Of displacements only those that are left behind the last stride.
            count = sum(side - abs(one) for one in range(1 - side, side) if one % steps[place] == 0) ** 2
        convolved += count
        rectified += count if network["last_relu"] or place + 1 < len(network["stride"]) else 0
    return convolved, rectified


def floor(network, side, dtype, threads):
    """Return the least seconds of a pair, at the rates of this minute."""
    x = torch.rand(2**14, dtype=dtype) + 0.5
    out = torch.empty_like(x)
    rates = {
        "arc tangent": lambda: torch.atan2(x, x, out=out),
        "square root": lambda: torch.rsqrt(x, out=out),
        "sum": lambda: torch.add(x, x, out=out),
    }
    each = {name: _rate(work) / len(x) for name, work in rates.items()}
    convolved, rectified = positions(network, side)
    total = 10 * each["sum"] * convolved
    total += (each["arc tangent"] + each["square root"] + 6 * each["sum"]) * rectified
    return total / threads, {name: 1e9 * one for name, one in each.items()}


def _rate(work, calls=100):
    return seconds(lambda: [work() for _ in range(calls)], repeats=5) / calls


def one_case(name, dtype, peer, threads, repeats, folder):
    """Return times, ratios and how far values are apart."""
    network, side, count, blocks = CASES[name]
    source, found = images(side, 2 * max(count, *blocks))
    left, right = found[::2].to(dtype), found[1::2].to(dtype)
    files = {key: str(Path(folder) / f"{key}-{side}.npy") for key in ("left", "right")}
    for key, part in (("left", left), ("right", right)):
        np.save(files[key], part.permute(0, 2, 3, 1).numpy())
    kernel = network_kernel(network)

    def theirs(block, values=False):
        return peer.ask(name=name, network=network, rows=block, columns=block, values=values, **files)

    few = blocks[0]
    want = np.array(theirs(few, values=True)["values"])
    exact = kernel.block(left[:few].double(), right[:few].double()).numpy()
    ours = kernel.block(left[:few], right[:few]).numpy()
    for block in blocks:
        theirs(block)  # compiled for each
    tried = {block: min(theirs(block)["seconds"] for _ in range(2)) / block**2 for block in blocks}
    best = min(tried, key=tried.get)
    floors, own, peers = [], [], []
    for _ in range(repeats):
        answer = theirs(best)
        peers.append([answer[key] / best**2 for key in ("seconds", "processor")])
        began = time.perf_counter(), time.process_time()
        kernel.block(left[:count], right[:count])
        ended = time.perf_counter(), time.process_time()
        own.append([(b - a) / count**2 for a, b in zip(began, ended, strict=True)])
        least, rates = floor(network, side, dtype, threads)
        floors.append(least)
    mine, other = (np.median(one, axis=0) for one in (own, peers))
    least = statistics.median(floors)
    return {
        "images": source,
        "block": count,
        "their_block": best,
        "milliseconds_an_entry": {
            "ours": 1e3 * mine[0],
            "neural-tangents": 1e3 * other[0],
            "floor": 1e3 * least,
        },
        "ratio": mine[0] / other[0],
        "ratio_of_processor_time": mine[1] / other[1],
        "share_of_floor": least / mine[0],
        "nanoseconds": rates,
        "ratios_one_by_one": sorted(a[0] / b[0] for a, b in zip(own, peers, strict=True)),
        "difference_relative": float(np.abs(ours - want).max() / np.abs(want).max()),
        "difference_of_ours_from_double": float(np.abs(ours - exact).max() / np.abs(exact).max()),
    }


def main():
    """Run the cases and keep their record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", required=True, help="the Python of an environment with neural-tangents")
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dtype", choices=["float64", "float32"], help="both if not given")
    parser.add_argument("--dry", action="store_true", help="print, and keep no record")
    asked = parser.parse_args()
    threads = torch.get_num_threads()
    result = {"threads": threads, "load_at_start": os.getloadavg()[0], "target": 1.0}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in [asked.dtype] if asked.dtype else ["float64", "float32"]:
            peer = Peer(asked.peers, dtype, threads)
            result["peer"] = peer.about
            for name in [one for one in CASES if one.startswith(asked.only)]:
                found = one_case(name, getattr(torch, dtype), peer, threads, asked.repeats, folder)
                result[f"{name}, {dtype}"] = found
                print(name, dtype, json.dumps(found, indent=2), flush=True)
            peer.close()
    result["load_at_end"] = os.getloadavg()[0]
    if asked.dry:
        print(json.dumps({key: one for key, one in result.items() if "load" in key}))
    else:
        record("convolutional", result)


if __name__ == "__main__":
    main()
