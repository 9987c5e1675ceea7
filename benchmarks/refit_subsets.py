"""Exact truth of a kernel model on random halves, beside the floor: nothing but the Cholesky factorisations.

    OMP_NUM_THREADS=2 python benchmarks/refit_subsets.py             1000 halves of n = 2000, 100 queries
    OMP_NUM_THREADS=2 python benchmarks/refit_subsets.py --count 100

The promise is 3 minutes for 1000 halves on two cores. The floor is (n/2)³/3 flops a subset: torch's Cholesky
of a kernel matrix of n/2, of which as many are timed, interleaved with the refits so that both see the same
machine.
"""

import argparse
import time

import torch
from measure import data_folder, record

import leftout as lo


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--n", type=int, default=2000)
    count, n = vars(parser.parse_args()).values()
    folder = data_folder()
    name = "digits" if folder is None else f"mnist:{folder / 'mnist'}"
    train, query = lo.load(name, n_train=n, n_query=100, normalise="sphere")
    fitted = lo.fit(lo.kernels.ReLU(2), train, rule=lo.Ridge(0.1))
    subsets = lo.random_subsets(n, count=count)
    seconds = floor = 0.0
    for block in range(0, count, 50):
        chosen = subsets[block : block + 50]
        began = time.perf_counter()
        lo.refit_subsets(fitted, query, chosen)
        seconds += time.perf_counter() - began
        shifted = fitted.gram[: n // 2, : n // 2] + 0.1 * torch.eye(n // 2, dtype=torch.float64)
        began = time.perf_counter()
        for _ in range(len(chosen)):
            torch.linalg.cholesky_ex(shifted)
        floor += time.perf_counter() - began
    record(
        "refit-subsets",
        {
            "n": n,
            "subsets": count,
            "queries": len(query),
            "outputs": fitted.outputs,
            "data": name.partition(":")[0],
            "seconds": round(seconds, 1),
            "floor_seconds": round(floor, 1),
            "ratio": round(seconds / floor, 2),
            "threads": torch.get_num_threads(),
        },
    )


if __name__ == "__main__":
    main()
