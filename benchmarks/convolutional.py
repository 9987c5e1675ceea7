"""What do compiled kernels cost, beside those of torch, neural-tangents and the floor?

    python -m venv .venv-peers && .venv-peers/bin/pip install "jax[cpu]==0.5.3" "neural-tangents==0.6.5"
    OMP_NUM_THREADS=1 python benchmarks/convolutional.py --peers .venv-peers/bin/python
    OMP_NUM_THREADS=1 python benchmarks/convolutional.py --only flat --dry

The pins are those of the extra `peers`: newer versions of jax do not load neural-tangents 0.6.5, and older
ones are slower. It gets the block of images that suits it best of those tried, compiled and warm. All are
kept to one core and take turns; times are of the processor, and ratios are medians over the turns.

Floor of a vector of pairs of images, at one position of one displacement and in one layer, in fused
multiply-adds or what takes as long, two of which a core starts at a time; their rate is measured in the same
turns (`multiply_add.c`):

    convolution    8 additions, of K and T along one axis of a window of 3 x 3 and then the other; 2 for the
                   scale and for T' = … + K'; half of it in the first layer, where T is K
    rectifier      15 around the angle and its polynomial, of degree 20 in float64 and 9 in float32; its root
                   takes 7 and 5 with AVX-512, 1 of its own unit with AVX2

Pixels, deviations of single images, sums over positions, and what is read or written are not counted.
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
from measure import data_folder, record

import leftout as lo
from leftout.kernels.fused.library import available_sets, chosen_code, use_code

PAPER = {"stride": [1, 1, 1, 2, 1, 2, 1], "pooling": "flatten", "weight_variance": 1.0, "last_relu": False}
DEEP = {"stride": [1] * 8, "pooling": "flatten", "weight_variance": 2.0, "last_relu": True}

CASES = {
    # network, side of an image, images on either side for C and for torch, blocks of neural-tangents to try
    "flat: paper, 32 x 32": (PAPER, 32, (192, 192), (48, 48), (4, 16, 32, 64)),
    "flat: 8 convolutions, 32 x 32": (DEEP, 32, (192, 192), (32, 32), (4, 8, 16, 32)),
    "flat: 3 convolutions, 32 x 32": (DEEP | {"stride": [1] * 3}, 32, (192, 192), (48, 48), (4, 16, 32)),
    "mean: 8 convolutions, 12 x 12": (DEEP | {"pooling": "mean"}, 12, (16, 32), (8, 8), (2, 4, 8)),
    "mean: 8 convolutions, 32 x 32": (DEEP | {"pooling": "mean"}, 32, (1, 16), (2, 2), (1, 2)),
}
ROWS = {
    "rows: ReLU(1), 64 columns": (lo.kernels.ReLU(1), 64),
    "rows: ReLU(3), 64 columns": (lo.kernels.ReLU(3), 64),
    "rows: ReLU(3) with biases, 64 columns": (lo.kernels.ReLU(3, bias_variance=0.3), 64),
    "rows: TwoLayerReLU, 64 columns": (lo.kernels.TwoLayerReLU(), 64),
    "rows: ReLU(3), 784 columns": (lo.kernels.ReLU(3), 784),
    "rows: TwoLayerReLU, 784 columns": (lo.kernels.TwoLayerReLU(), 784),
}
SIDE = 1024
"""Rows on either side."""

BYTES = {"avx2": 32, "avx512": 64}
ROOT_TAKES = {"avx2": (1, 1), "avx512": (7, 5)}


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
        # One core, or its own threads would take a second one.
        settings = {"OMP_NUM_THREADS": str(threads), "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
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


def floor_operations(network, side, code, dtype):
    """Return the least operations on vectors of a pair of images."""
    wide = dtype == torch.float64
    lanes = BYTES[code] // dtype.itemsize
    rectifier = 15 + (20 if wide else 9) + ROOT_TAKES[code][0 if wide else 1]
    steps = [int(np.prod(network["stride"][place + 1 :])) for place in range(len(network["stride"]))]
    total = 0
    for place, stride in enumerate(network["stride"]):
        side = -(-side // stride)
        count = side**2
        if network["pooling"] == "mean":
            # Of displacements only those that are left behind the last stride.
            count = sum(side - abs(by) for by in range(1 - side, side) if by % steps[place] == 0) ** 2
        total += (5 if place == 0 else 10) * count
        total += rectifier * count if network["last_relu"] or place + 1 < len(network["stride"]) else 0
    return total / lanes


class MultiplyAdd:
    """The rate of fused multiply-adds of a core, compiled once for each set of instructions."""

    def __init__(self, folder):
        self.programs = {}
        for code in BYTES:
            self.programs[code] = Path(folder) / f"multiply-add-{code}"
            source = Path(__file__).with_name("multiply_add.c")
            flags = ["-O3", f"-DBYTES={BYTES[code]}", "-mavx512f" if code == "avx512" else "-mavx2", "-mfma"]
            subprocess.run(["cc", *flags, str(source), "-o", str(self.programs[code])], check=True)

    def rate(self, code):
        """Return operations a second."""
        done = subprocess.run([str(self.programs[code]), "0.05"], capture_output=True, text=True, check=True)
        return float(done.stdout.split()[0])


def processor_seconds(work):
    """Return the time of the processor that one call takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def with_code(code, work):
    """Return a call of `work` by this code."""

    def call():
        with use_code(code):
            return work()

    return call


def ratios(times):
    """Return medians, and how many times as long as each C everything else takes, medians over the turns."""
    names = list(times)
    compiled = [name for name in names if name in BYTES]
    return {
        "median": {name: statistics.median(times[name]) for name in names},
        "ratio": {
            name: {
                code: statistics.median(a / b for a, b in zip(times[name], times[code], strict=True))
                for code in compiled
            }
            for name in names
            if name not in compiled
        },
        "quartiles_of_ratio_to_torch": {
            code: np.quantile(np.divide(times["torch"], times[code]), [0.25, 0.75]).tolist()
            for code in compiled
        },
    }


def image_case(name, dtype, peer, rates, repeats, folder):
    """Return microseconds an entry of each, their ratios, and how far values are apart."""
    network, side, ours, torch_count, blocks = CASES[name]
    source, found = images(side, 2 * max(*ours, *torch_count, *blocks))
    left, right = found[::2].to(dtype), found[1::2].to(dtype)
    right[0] = left[0]
    kernel = network_kernel(network)
    codes = [code for code in available_sets() if code in BYTES]
    works = {
        code: (with_code(code, lambda: kernel.block(left[: ours[0]], right[: ours[1]])), ours[0] * ours[1])
        for code in codes
    }
    works["torch"] = (
        with_code("torch", lambda: kernel.block(left[: torch_count[0]], right[: torch_count[1]])),
        torch_count[0] * torch_count[1],
    )
    times = {key: [] for key in (*works, *([] if peer is None else ["neural-tangents"]), *_floors(codes))}
    result = {"images": source, "turns": repeats}
    if peer is not None:
        files = {key: str(Path(folder) / f"{key}-{side}.npy") for key in ("left", "right")}
        for key, values in (("left", left), ("right", right)):
            np.save(files[key], values.permute(0, 2, 3, 1).numpy())

        def theirs(block, values=False):
            return peer.ask(name=name, network=network, rows=block, columns=block, values=values, **files)

        for block in blocks:
            theirs(block)  # compiled for each
        tried = {block: min(theirs(block)["processor"] for _ in range(2)) / block**2 for block in blocks}
        best = min(tried, key=tried.get)
        want = np.array(theirs(blocks[-1], values=True)["values"])
        result["their_block"] = best
    with use_code("torch"):
        exact = kernel.block(left[: blocks[-1]].double(), right[: blocks[-1]].double()).numpy()
    result["difference_from_torch_in_float64"] = {}
    for code in codes:
        with use_code(code):
            values = kernel.block(left[: blocks[-1]], right[: blocks[-1]]).numpy()
            equal = kernel.diagonal(left[:1])
        off = float(np.abs(values - exact).max() / np.abs(exact).max())
        result["difference_from_torch_in_float64"][code] = off
        result[f"equal_images_exact_{code}"] = bool(values[0, 0] == float(equal[0]))
    if peer is not None:
        # Its own diagonal is off by 1e-8, as an arc cosine is there.
        off = np.abs(values - want) / np.abs(want).max()
        off[0, 0] = 0
        result["difference_from_neural_tangents"] = float(off.max())
    for work, _ in works.values():
        work()
    for _ in range(repeats):
        for key, (work, pairs) in works.items():
            times[key].append(1e6 * processor_seconds(work) / pairs)
        if peer is not None:
            times["neural-tangents"].append(1e6 * theirs(best)["processor"] / best**2)
        for code in codes:
            operations = floor_operations(network, side, code, dtype)
            times[f"floor, {code}"].append(1e6 * operations / rates.rate(code))
    summary = ratios(times)
    for code in codes:
        summary["ratio"][f"floor, {code}"] = {code: summary["ratio"][f"floor, {code}"][code]}
    return (
        result
        | {"microseconds_an_entry": summary["median"], "ratio": summary["ratio"]}
        | {"quartiles_of_ratio_to_torch": summary["quartiles_of_ratio_to_torch"]}
    )


def _floors(codes):
    return [f"floor, {code}" for code in codes]


def row_case(name, dtype, repeats):
    """Return nanoseconds an entry of kernels of rows, and of the product of rows that all need."""
    kernel, columns = ROWS[name]
    draw = torch.Generator().manual_seed(0)
    x, z = (torch.randn(SIDE, columns, generator=draw, dtype=torch.float64) for _ in range(2))
    x, z = ((rows / rows.norm(dim=1, keepdim=True)).to(dtype) for rows in (x, z))
    codes = [code for code in available_sets() if code in BYTES]
    works = {code: with_code(code, lambda: kernel.block(x, z)) for code in (*codes, "torch")}
    works["product of rows"] = lambda: x @ z.T
    times = {key: [] for key in works}
    for work in works.values():
        work()
    for _ in range(4 * repeats):
        for key, work in works.items():
            times[key].append(1e9 * processor_seconds(work) / SIDE**2)
    summary = ratios(times)
    return {
        "nanoseconds_an_entry": summary["median"],
        "ratio": summary["ratio"],
        "quartiles_of_ratio_to_torch": summary["quartiles_of_ratio_to_torch"],
    }


def main():
    """Run the cases and keep their record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="the Python of an environment with neural-tangents; without, no peer")
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dtype", choices=["float64", "float32"], help="both if not given")
    parser.add_argument("--dry", action="store_true", help="print, and keep no record")
    asked = parser.parse_args()
    if torch.get_num_threads() != 1:
        parser.error("rates are of one core: set OMP_NUM_THREADS=1")
    result = {
        "code": chosen_code(),
        "load_at_start": os.getloadavg()[0],
        "target": {
            "torch / avx512, float64": 10,
            "torch / avx512, float32": 12,
            "torch / avx2": 7,
            "rows": 2,
            "floor": 0.5,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        rates = MultiplyAdd(folder)
        for dtype in [asked.dtype] if asked.dtype else ["float64", "float32"]:
            peer = Peer(asked.peers, dtype, 1) if asked.peers else None
            result["peer"] = None if peer is None else peer.about
            for name in [name for name in CASES if name.startswith(asked.only)]:
                found = image_case(name, getattr(torch, dtype), peer, rates, asked.repeats, folder)
                result[f"{name}, {dtype}"] = found
                print(name, dtype, json.dumps(found, indent=2), flush=True)
            for name in [name for name in ROWS if name.startswith(asked.only)]:
                result[f"{name}, {dtype}"] = found = row_case(name, getattr(torch, dtype), asked.repeats)
                print(name, dtype, json.dumps(found, indent=2), flush=True)
            if peer is not None:
                peer.close()
    result["load_at_end"] = os.getloadavg()[0]
    if asked.dry:
        print(json.dumps({key: result[key] for key in result if "load" in key}))
    else:
        record("convolutional", result)


if __name__ == "__main__":
    main()
