"""Findings without an audit: small kernel ridge models in numpy, and lists made from them.

The numbers are plausible, not checked: these records exist to be drawn. `random_findings` has
random scores, for sizes at which nothing else matters.
"""

from dataclasses import replace

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits, load_iris

from leftout.curation.prune import Pruned
from leftout.curation.sources import Difference, IntervalEstimate, Source, Sources
from leftout.curation.subclasses import Subclass
from leftout.data.encoding import encoding_of_classes, encoding_of_numbers
from leftout.data.examples import Examples
from leftout.report.findings import Findings, ModelAtTime
from problems.synthetic_models import classified, fitted, labelled, learning

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "' onmouseover='alert(4)",
    "{{ 7 * 7 }}{% raise %}",
    "<!-- --><!--<script>",
    "größte Klasse 类别 ñ 🙂 \u2028",
    "javascript:alert(5) & &lt;b&gt; http://example.invalid/x",
    "abc\u202egnp.exe \x00\x1b[31m \ud800",
    "long " * 400,
)


def digits_findings(n: int = 400, m: int = 60, *, times=(10.0, 100.0, np.inf), two=False) -> Findings:
    """Return findings on scikit-learn's digits, 8 × 8, with every twelfth training label wrong."""
    data = load_digits()
    pick = np.flatnonzero(data.target < 2) if two else np.arange(len(data.target))
    n = min(n, len(pick) - m)
    rows, asked = pick[:n], pick[n : n + m]
    images = np.round(data.images * 255 / 16).astype(np.uint8)
    names = ("zero", "one") if two else tuple(map(str, range(10)))
    flat = data.images.reshape(len(data.images), -1) / 16
    return classified(
        flat[rows],
        data.target[rows],
        flat[asked],
        data.target[asked],
        names,
        times=times,
        images=(images[rows], images[asked]),
        source="digits",
    )


def colour_findings(n: int = 240, m: int = 40, *, side: int = 32, times=(np.inf,)) -> Findings:
    """Return findings on made-up colour pictures: discs, bars and gradients."""
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 3, n + m)
    pictures = np.stack([_picture(rng, int(c), side) for c in classes])
    flat = pictures.reshape(n + m, -1) / 255.0
    return classified(
        flat[:n],
        classes[:n],
        flat[n:],
        classes[n:],
        ("disc", "bar", "gradient"),
        times=times,
        images=(pictures[:n], pictures[n:]),
        source="photos/",
    )


def iris_findings(*, times=(5.0, np.inf)) -> Findings:
    """Return findings on a table with three classes."""
    data = load_iris()
    order = np.random.default_rng(0).permutation(150)
    rows, asked = order[:110], order[110:]
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    return classified(
        x[rows],
        data.target[rows],
        x[asked],
        data.target[asked],
        tuple(data.target_names),
        times=times,
        table=(data.data[rows], data.data[asked]),
        columns=tuple(data.feature_names),
        source="iris.csv",
    )


def diabetes_findings(*, outputs: int = 1, times=(np.inf,)) -> Findings:
    """Return findings on a regression table."""
    data = load_diabetes(scaled=False)
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    y = np.stack([data.target, *[data.target[::-1]] * (outputs - 1)], 1)
    encoding = encoding_of_numbers(torch.from_numpy(y[:300]))
    offset = torch.tensor(encoding.offset, dtype=torch.float64)
    common = {"encoding": encoding, "columns": tuple(data.feature_names)}
    train, query = (
        Examples(
            torch.from_numpy(x[part]),
            torch.from_numpy(y[part]) - offset,
            table=data.data[part],
            ids=tuple(f"row {i}" for i in range(part.start, part.stop)),
            preparation={"data": "diabetes.csv"},
            **common,
        )
        for part in (slice(0, 300), slice(300, 380))
    )
    return fitted(train, query, times, width=10.0, wrong=[])


def sources_findings(found: Findings | None = None, names=("film", "phone", "scan")) -> Findings:
    """Return findings with two kinds within classes and three sources, whatever they are called."""
    found = found or digits_findings(120, 20)
    reason = f"Of {names[0]} there are too few."
    kinds = (
        Subclass(names[0], tuple(range(20)), 0.11, 3e-3, 1e-4, 5e-4, 2.13, reason),
        Subclass(None, (30, 31, 32, 33, 34), 0.05, 2e-3, 1e-4, 5e-4, 1.52, reason),
    )
    sources = tuple(
        Source(
            name,
            40,
            *(IntervalEstimate(value / (j + 1), value / (j + 2), np.inf) for value in (2, 1, 4, 3)),
            loss=0.5 - j / 2,
            loss_each=(0.5 - j / 2) / 40,
            whole_weights=7.0,
            whole_function=5.0,
        )
        for j, name in enumerate(names)
    )
    differences = tuple(
        Difference(names[j], names[j + 1], IntervalEstimate(0.5, 0.1 - j, 0.9), j == 0) for j in (0, 1)
    )
    return replace(found, subclasses=kinds, sources=Sources(sources, differences, np.inf, reason))


def hostile_findings() -> Findings:
    """Return findings whose classes, ids, columns, settings and reasons all want to be markup."""
    found = iris_findings(times=(1.0, np.inf))
    names = (HOSTILE[0], HOSTILE[1], HOSTILE[2])
    settings = {HOSTILE[0]: HOSTILE[1], "kernel": HOSTILE[2], "notes": list(HOSTILE)}
    train, query = (
        replace(
            examples,
            ids=tuple(HOSTILE[i % len(HOSTILE)] + f" {i}" for i in range(len(examples))),
            encoding=replace(examples.encoding, classes=names),
            columns=HOSTILE[:4],
            table=np.array([[HOSTILE[(i + j) % 9] for j in range(4)] for i in range(len(examples))], object),
            preparation={"data": HOSTILE[1]},
        )
        for examples in (found.train, found.query)
    )
    rename = dict(zip(found.train.classes, names, strict=True))
    suspects = tuple(
        replace(one, given=rename[one.given], suggested=rename[one.suggested], reason=HOSTILE[0])
        for one in found.suspects
    )
    rare = tuple(replace(one, reason=HOSTILE[2]) for one in found.rare)
    redundant = replace(found.redundant, reason=HOSTILE[1])
    certificate = replace(found.certificate, device=HOSTILE[0])
    return replace(
        sources_findings(found, HOSTILE[3:6]),
        train=train,
        query=query,
        settings=settings,
        suspects=suspects,
        rare=rare,
        redundant=redundant,
        certificate=certificate,
    )


def bare_findings() -> Findings:
    """Return findings with nothing found: no lists, curves, pictures, table or refits."""
    found = digits_findings(4, 2, times=(np.inf,))
    redundant = Pruned((), (0.0,), (0,), (found.redundant.loss[0],), None, 0, "Too few examples.")
    train, query = (replace(part, images=None) for part in (found.train, found.query))
    certificate = replace(found.certificate, refits=(), condition=np.inf, quadrature=0.0)
    return replace(
        found,
        train=train,
        query=query,
        settings={},
        suspects=(),
        redundant=redundant,
        rare=(),
        outliers=(),
        duplicates=(),
        certificate=certificate,
        learned=None,
    )


def random_findings(n: int, m: int, times: int, shape: tuple[int, ...]) -> Findings:
    """Return findings with random scores and pictures of noise, which nothing compresses."""
    rng = np.random.default_rng(0)
    torch_rng = torch.Generator().manual_seed(0)
    names = tuple(f"class {c}" for c in range(10))
    labels = torch.from_numpy(rng.integers(0, 10, n + m))
    encoding = encoding_of_classes(labels, names)
    pictures = rng.integers(0, 256, (n + m, *shape), dtype=np.uint8)
    inputs, targets = torch.zeros(n + m, 1, dtype=torch.float64), encoding.encode(labels)
    every = Examples(
        inputs, targets, encoding, labels, tuple(f"file-{i:06d}.png" for i in range(n + m)), pictures
    )
    train, query = every.select(range(n)), every.select(range(n, n + m))
    at_times = tuple(
        ModelAtTime(
            float(10**t),
            torch.randn(m, 10, generator=torch_rng, dtype=torch.float64) / 3,
            torch.randn(n, 10, generator=torch_rng, dtype=torch.float64) / 3,
            0.4,
            0.4,
            0.1,
            0.1,
        )
        for t in range(times)
    )
    scores = rng.standard_normal((times, m, n), dtype=np.float32)
    found = digits_findings(60, 10, times=(np.inf,))
    return replace(
        found,
        train=train,
        query=query,
        at_times=at_times,
        margins=torch.randn(n, generator=torch_rng, dtype=torch.float64),
        scores=labelled(scores),
        learned=learning(n, [model.at for model in at_times]),
    )


def _picture(rng, kind: int, side: int):
    up, across = np.mgrid[0:side, 0:side] / side
    ground, ink = rng.integers(0, 256, (2, 3))
    middle, size = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.35)
    if kind == 0:
        mask = ((up - middle[0]) ** 2 + (across - middle[1]) ** 2 < size**2).astype(float)
    elif kind == 1:
        mask = (np.abs(across - middle[1]) < size / 2).astype(float)
    else:
        mask = np.clip(up * middle[0] + across * middle[1], 0, 1)
    picture = ground * (1 - mask[..., None]) + ink * mask[..., None] + rng.normal(0, 8, (side, side, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)
