"""Kernel ridge models in plain numpy, and the lists of an audit made from them."""

import numpy as np
import torch
import xarray as xr

from leftout.core.certificate import Certificate, Refit
from leftout.curation.duplicates import Duplicates
from leftout.curation.learned import Kind, Learned, early_stop
from leftout.curation.mislabelled import Neighbour, Suspect
from leftout.curation.prune import Pruned
from leftout.curation.rare import Outlier, Rare
from leftout.data.encoding import encoding_of_classes
from leftout.data.examples import Examples
from leftout.report.findings import Findings, ModelAtTime


def classified(
    x, labels, x_query, query_labels, classes, *, times, images=None, table=None, columns=None, source
) -> Findings:
    """Return findings of a classification, every twelfth training label made wrong."""
    x, labels, wrong = x.copy(), labels.copy(), list(range(5, len(labels), 12))
    labels[wrong] = (labels[wrong] + 1 + np.arange(len(wrong)) % (len(classes) - 1)) % len(classes)
    for row, copy in ((3, 17), (3, 29), (8, 40)):  # the duplicates that `fitted` reports
        if copy < len(labels):
            x[copy] = x[row]
            for of in (images, table):
                if of is not None:
                    of[0][copy] = of[0][row]
            labels[copy] = labels[row] if row == 3 else (labels[row] + 1) % len(classes)
    labels = torch.from_numpy(labels).long()
    encoding = encoding_of_classes(labels, classes)
    train, query = (
        Examples(
            torch.from_numpy(inputs),
            encoding.encode(given),
            encoding,
            given,
            tuple(f"{source}{kind}/{i:05d}" for i in range(len(inputs))),
            images=None if images is None else images[side],
            table=None if table is None else table[side],
            columns=columns,
            preparation={"data": source, "normalise": "unit"},
        )
        for side, (kind, inputs, given) in enumerate(
            (("train", x, labels), ("query", x_query, torch.from_numpy(query_labels).long()))
        )
    )
    return fitted(train, query, times, width=float(np.var(x, 0).sum()), wrong=wrong)


def fitted(train: Examples, query: Examples, times, *, width: float, wrong: list[int]) -> Findings:
    """Return what ridge regression with a Gaussian kernel finds; time t is ridge 0.05 + 1/t."""
    x, z = train.inputs.numpy(), query.inputs.numpy()
    y, truth = train.targets.numpy(), query.targets.numpy()
    gram, cross = _gauss(x, x, width), _gauss(z, x, width)
    at_times, scores = [], []
    for time in times:
        inverse = np.linalg.inv(gram + (0.05 + 1 / time) * np.eye(len(x)))
        dual = inverse @ y
        residual = dual / np.diag(inverse)[:, None]
        said, hat = cross @ dual, cross @ inverse
        without = said[:, None] - hat[:, :, None] * residual[None]
        before = 0.5 * ((said - truth) ** 2).sum(1)
        scores.append(0.5 * ((without - truth[:, None]) ** 2).sum(2) - before[:, None])
        at_times.append(_model_at(time, said, y - residual, train, query))
    left_out = at_times[-1].out_of_sample
    margins, suspects = _suspects(train, left_out, gram)
    rare = _rare(train, left_out, gram)
    alike = gram - 2 * np.eye(len(x))
    lonely = np.argsort(alike.max(1))[:6]
    mean = scores[-1].mean(0)
    return Findings(
        train,
        query,
        _settings(train, query, times),
        tuple(at_times),
        labelled(np.stack(scores)),
        margins,
        suspects,
        _removal(train, query, gram, cross, mean),
        rare,
        tuple(Outlier(int(r), float(alike[r].max()), "Its nearest neighbour is far away.") for r in lonely),
        (Duplicates((3, 17, 29), False), Duplicates((8, 40), True)) if len(x) > 40 else (),
        Certificate(
            float(times[-1]),
            3.1e4,
            2.9e4,
            12.7,
            4e-16,
            0.0,
            3.4e-13,
            21.8,
            "float64",
            "float64",
            "cpu",
            (Refit(7, 1, 0.0312345678901, 0.0312345678903, 6e-12), Refit(2, 0, -0.4, -0.4, 2.2e-13)),
            3e-4,
        ),
        learning(len(x), times),
    )


def learning(n: int, asked) -> Learned:
    """Return a curve of training with the times asked for on it: half of it by heart, a bottom inside."""
    times = tuple(sorted({1.0, 3.0, 10.0, 30.0, 100.0, 300.0, *map(float, asked)}))
    rng = np.random.default_rng(1)
    place = np.arange(len(times)) / (len(times) - 1)
    seen = np.outer(0.4 * (1 - place) + 0.01, np.ones(n))
    unseen = np.outer(0.2 + (place - 0.4) ** 2, rng.uniform(0.5, 1.5, n))
    since = rng.integers(0, len(times) + 1, n)
    apart = since + rng.integers(0, len(times), n)
    time_index = times.index(float(asked[-1]))
    kinds = [
        Kind.NOT_LEARNED if s > time_index else Kind.BY_HEART if a > time_index else Kind.FROM_OTHERS
        for s, a in zip(since, apart, strict=True)
    ]
    steps = np.arange(len(times))[:, None]
    right, understood = since <= steps, apart <= steps
    named = [[times[j] if j < len(times) else None for j in one] for one in (since, apart)]
    return Learned(
        times,
        time_index,
        tuple(seen.mean(1)),
        tuple(unseen.mean(1)),
        tuple((right & understood).mean(1)),
        tuple((right & ~understood).mean(1)),
        tuple(named[0]),
        tuple(named[1]),
        tuple(kinds),
        tuple(np.argsort(-since, kind="stable").tolist()),
        early_stop(times, seen, unseen),
    )


def _gauss(a, b, width):
    return np.exp(-((a[:, None] - b[None]) ** 2).sum(2) / width)


def labelled(scores) -> xr.DataArray:
    return xr.DataArray(scores, dims=("at", "query", "train"), attrs={"rule": "GradientFlow(rate=1.0)"})


def _model_at(time, said, left, train: Examples, query: Examples) -> ModelAtTime:
    said, left = torch.from_numpy(said), torch.from_numpy(left)
    losses = [float(0.5 * (f - e.targets).square().sum(1).mean()) for f, e in ((said, query), (left, train))]
    right = [None, None]
    if train.classes is not None:
        pairs = ((said, query), (left, train))
        right = [float((e.encoding.decode(f) == e.labels).double().mean()) for f, e in pairs]
    return ModelAtTime(float(time), said, left, *losses, *right)


def _suspects(train: Examples, left_out, gram):
    """Return the margin of every label, and the suspects."""
    if train.classes is None:
        values, predicted = (
            train.encoding.in_target_units(train.targets),
            train.encoding.in_target_units(left_out),
        )
        gap = -(values - predicted).norm(dim=1)
        return gap, tuple(
            Suspect(
                row,
                f"{values[row, 0]:.6g}",
                f"{predicted[row, 0]:.6g}",
                float(gap[row]),
                tuple(predicted[row].tolist()),
                _opposing(gram, row),
                "Examples much like it have values far from the one given.",
            )
            for row in gap.argsort()[:9].tolist()
        )
    scores, labels = train.encoding.class_scores(left_out), train.labels
    given_score = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -torch.inf)
    margin, best = given_score - others.max(1).values, others.argmax(1)
    suspects = []
    for row in margin.argsort().tolist():
        if margin[row] < 0:
            given, suggested = train.classes[labels[row]], train.classes[best[row]]
            reason = f"Without it, its neighbours say {suggested}: 4 of the 5 nearest are labelled so."
            suspects.append(
                Suspect(
                    row,
                    given,
                    suggested,
                    float(margin[row]),
                    tuple(scores[row].tolist()),
                    _opposing(gram, row),
                    reason,
                )
            )
    return margin, tuple(suspects)


def _opposing(gram, row: int) -> tuple[Neighbour, ...]:
    near = [int(i) for i in np.argsort(-gram[row]) if i != row][:5]
    return tuple(Neighbour(i, float(gram[row, i]) / 9) for i in near)


def _rare(train: Examples, left, gram) -> tuple[Rare, ...]:
    loss = 0.5 * (left - train.targets).square().sum(1)
    reason = "Its neighbours agree with its label, but there are too few of them to predict it."
    agreement = 0.8 if train.classes is not None else float("nan")
    return tuple(Rare(r, float(loss[r]), agreement, reason) for r in loss.argsort().tolist()[-20:-8])


def _removal(train: Examples, query: Examples, gram, cross, mean) -> Pruned:
    order = np.argsort(mean)
    shares = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
    loss, right = [], []
    for share in shares:
        keep = order[round(share * len(order)) :]
        dual = np.linalg.solve(
            gram[np.ix_(keep, keep)] + 0.05 * np.eye(len(keep)), train.targets.numpy()[keep]
        )
        said = torch.from_numpy(cross[:, keep] @ dual)
        loss.append(float(0.5 * (said - query.targets).square().sum(1).mean()))
        if train.classes is not None:
            right.append(float((query.encoding.decode(said) == query.labels).double().mean()))
    counts = tuple(round(share * len(order)) for share in shares)
    stop = max((c for c, one in zip(counts, loss, strict=True) if one <= loss[0]), default=0)
    reason = "Up to here the mean loss on the queries is no larger than with everything."
    return Pruned(tuple(map(int, order)), shares, counts, tuple(loss), tuple(right) or None, stop, reason)


def _settings(train: Examples, query: Examples, times) -> dict:
    return {
        "data": train.preparation.get("data", ""),
        "training examples": len(train),
        "queries": len(query),
        "kernel": "TwoLayerReLU()",
        "rule": "GradientFlow(rate=1.0, ridge=0.05)",
        "loss": "sum",
        "training times": [float(time) for time in times],
        "normalise": "unit",
        "centre": "uniform",
        "seed": 0,
        "version": "leftout 0.1.0",
        "date": "2026-03-02",
    }
