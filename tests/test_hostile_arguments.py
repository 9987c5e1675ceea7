"""Whatever stands where an argument belongs: an answer, or an error of ours in one sentence.

Every public function is called with each of its arguments replaced by each of many odd objects. It runs in a
process of its own, for the checker of annotations that the tests load would refuse most of them first.
"""

import json
import subprocess
import sys

import pytest

import leftout as lo

CALL = """
import contextlib, inspect, io, json, os, sys, tempfile, traceback, warnings
import numpy as np, sklearn.linear_model, torch
import leftout as lo
from leftout.core.errors import LeftoutError

warnings.simplefilter("ignore")
os.chdir(tempfile.mkdtemp())
every, first = map(int, sys.argv[1:])
torch.manual_seed(0)
x = torch.nn.functional.normalize(torch.randn(8, 3, dtype=torch.float64))
y = torch.arange(8) % 2
pair = x[:3], y[:3]
kernel = lo.kernels.ReLU(1)
fitted = lo.fit(kernel, (x, y), rule=lo.Ridge(0.1))
flow = lo.fit(kernel, (x, y), rule=lo.GradientFlow(1.0, 0.1))
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
data = x, x[:, :1]
trained = lo.train(net, data, rule=lo.Ridge(0.5))
of_net = lo.fit(lo.kernels.Empirical(net, weights="initial"), data, rule=lo.GradientDescent(0.01))
gram, few = kernel.block(x, x), (x[:3], x[:3, :1])
aware = lo.kernels.LabelAware(kernel, "kr-v1", None)
relu_net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).double()
optimiser = torch.optim.SGD(relu_net.parameters(), lr=0.5)
for _ in range(60):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(relu_net(x), y).backward()
    optimiser.step()
of_classes = lo.kernels.Empirical(relu_net)
classifier = lo.fit(of_classes, (x, y), rule=lo.Logistic(0.5))
ridge_model = sklearn.linear_model.Ridge().fit(x.numpy(), y.numpy())
scores = np.arange(6.0).reshape(2, 3)
halves = np.arange(80).reshape(10, 8) % 3 > 0
truth = lo.refit_subsets(fitted, pair, halves)
scores_of_query = np.arange(24.0).reshape(3, 8) % 7
USUAL = {
    "add": ((fitted, pair, x[:1], [0]), {}),
    "agreement": ((scores, scores + 1), {}),
    "audit": ((kernel, (x, y), pair), {}),
    "certify": ((fitted, pair), {}),
    "choose_kernel": (([kernel], (x, y)), {}),
    "choose_ridge": ((kernel, (x, y)), {}),
    "choose_strength": ((aware, (x, y)), {"strengths": [0.0, 0.1]}),
    "complexity": ((fitted, [[0, 1]]), {}),
    "damaged_files": (("run",), {}),
    "consensus": (([scores, scores + 1],), {}),
    "data_learnability": ((gram, x[:, :1], [0, 1]), {}),
    "elasticity": ((kernel, (x, y)), {}),
    "ensemble": ((of_net, x[:2]), {}),
    "error_rates": ((fitted, pair), {}),
    "first_order": ((fitted, pair), {}),
    "fit": ((kernel, pair), {}),
    "from_sklearn": ((ridge_model, x.numpy(), y.numpy(), np.ones(8)), {}),
    "from_modes": (([1.0, 0.5], [1.0, 1.0]), {"n": 2}),
    "hoeffding": ((lambda labels: gram, y), {"draws": 4}),
    "influence_function": ((trained, few), {}),
    "information": ((fitted, pair), {}),
    "learnability": ((gram, x[:, :1]), {"n": 3}),
    "learned": ((flow,), {}),
    "learning_curve": ((fitted, [10]), {}),
    "leave_one_out": ((fitted, pair), {}),
    "leave_out": ((fitted, pair, [[0]]), {}),
    "linearisation_gap": ((of_net, few), {"at": 3}),
    "linearised_module": ((of_net,), {"at": 3}),
    "linearity_test": ((net, data, few), {"rule": lo.GradientDescent(0.01), "steps": 2}),
    "load": (("digits",), {"n_train": 20, "n_query": 4}),
    "open": (("run",), {}),
    "out_of_sample": ((fitted,), {}),
    "outliers": ((fitted,), {}),
    "plot": ((lo.leave_one_out(fitted, pair),), {}),
    "posterior": ((fitted, x[:2]), {}),
    "prune": ((fitted, pair), {}),
    "prune_check": ((lo.prune(of_net, few, at=3), trained, few), {"counts": [0]}),
    "random_subsets": ((8,), {"count": 3}),
    "rare": ((fitted,), {}),
    "read_scores": ((scores_of_query,), {"source": "trak", "train": 3, "query": 8}),
    "referee": ((scores_of_query, truth), {"query": pair, "resamples": 40, "subsets": 8}),
    "refit_subsets": ((fitted, pair, halves), {}),
    "removal_subsets": ((scores_of_query,), {"shares": [0.25], "draws": 1}),
    "relabel": ((fitted, pair, [0], 1), {}),
    "retrain": ((trained, few, [[0]]), {"check": 0}),
    "retrain_subsets": ((lambda train, seed: lambda x: x[:, :2], (x, y), pair, halves), {"jobs": 1}),
    "reweight": ((fitted, pair, [0], 0.5), {}),
    "ridge_from_loss": ((of_classes, (x, y)), {}),
    "sources": ((fitted, pair, list("aabbaabb")), {"draws": 20}),
    "subclasses": ((fitted, pair), {}),
    "suspects": ((y, np.full((8, 2), 0.5)), {}),
    "train": ((net, data), {"rule": lo.Ridge(0.5)}),
    "training_ridge": ((), {"n": 8, "learning_rates": 0.1, "steps": 5}),
    "trajectory": ((flow,), {}),
    "trust": ((classifier, pair), {}),
    "transfer": ((gram, [0, 1]), {}),
}
class Odd:
    def __repr__(self):
        raise RuntimeError("no words for it")

ODD = [
    lambda: None, lambda: "text", lambda: b"x", lambda: -1, lambda: 0, lambda: 1.5, lambda: 2**63,
    lambda: 10**400, lambda: float("nan"), lambda: float("inf"), lambda: True, list, dict, tuple, Odd,
    lambda: (i for i in [[0]]), lambda: (lambda q: q), lambda: 1j, lambda: [[0], [1]], lambda: [None],
    lambda: ["a"], lambda: {"a": 1}, lambda: torch.empty(2, 3, device="meta"), lambda: torch.zeros(0),
    lambda: np.array(["a"], dtype=object), lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
    lambda: range(3), lambda: {1}, lambda: Odd, lambda: torch.nn.Linear(3, 1), lambda: object,
]
raw, calls = [], 0
for name, (arguments, options) in sorted(USUAL.items()):
    function = getattr(lo, name)
    for i, parameter in enumerate(inspect.signature(function).parameters):
        for j, odd in enumerate(ODD):
            if (calls + first) % every:
                calls += 1
                continue
            calls += 1
            # Processes, and folders of any name, are tested elsewhere.
            if parameter == "jobs" or (parameter == "out" and j in (1, 2)):
                continue
            listed, named = list(arguments), dict(options)
            if i < len(listed):
                listed[i] = odd()
            else:
                named[parameter] = odd()
            try:
                with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                    function(*listed, **named)
            except LeftoutError:
                pass
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{where.filename[-40:]}:{where.lineno}"
                raw.append([name, parameter, j, type(error).__name__, str(error)[:80], place])
print(json.dumps([sorted(USUAL), calls, raw]))
"""


def call(every: int, first: int = 0):
    """Return the names of the functions, the number of calls, and what was wrong in one call in so many."""
    done = subprocess.run(
        [sys.executable, "-c", CALL, str(every), str(first)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_an_odd_argument_of_any_public_function_is_an_error_of_ours() -> None:
    called, calls, raw = call(47)
    assert set(called) == {name for name in lo.__all__ if type(getattr(lo, name)).__name__ == "function"}
    assert calls > 5000
    assert raw == []


@pytest.mark.slow
def test_no_odd_argument_is_an_error_of_python_or_torch() -> None:
    _, _, raw = call(1)
    assert raw == []
