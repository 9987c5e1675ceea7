"""How often were networks that were trained again as two agreeing models said? Numbers of a record."""

from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Float64

from leftout.core.wording import number, percent

SPEAKS = 0.5
"""Expected LDS from which answers speak for a network, and half of it from which they do so in part."""


@final
@dataclass(frozen=True)
class Calibration:
    """What agreement of two models was worth on networks that were trained again (`benchmarks/verdict.py`).

    Attributes:
        source: the record.
        networks, queries: how many it was measured on; at two ridges each.
        good: LDS of a query from which the answers about it are called good.
        threshold: agreement from which a query is trusted.
        trusted, noise: share of queries with a good LDS among those trusted and among the others, with the
            ends of an interval of 95 % from resampling networks; the threshold was chosen on other networks.
        intercept, slope: of the least-squares line of a network's mean LDS against its mean agreement.
        single_networks: how many were also trained again without single examples, in several seeds.
        seeds_agree: rank correlation of two seeds about that, mean over these networks, least and most.
        low, high: 5 % and 95 % quantiles of how far a network's mean LDS was from the line of the others.
    """

    source: str
    networks: int
    queries: int
    good: float
    threshold: float
    trusted: tuple[float, float, float]
    noise: tuple[float, float, float]
    intercept: float
    slope: float
    low: float
    high: float
    single_networks: int
    seeds_agree: tuple[float, float, float]

    @property
    def record(self) -> dict[str, Any]:
        """Return all numbers, JSON-like."""
        return {name: list(kept) if isinstance(kept, tuple) else kept for name, kept in asdict(self).items()}

    def mean_lds(self, agreement: Float64[np.ndarray, " m"]) -> tuple[float, float, float]:
        """Return the mean LDS to be expected of these queries, and the ends of an interval of 90 %.

        NaN where no query has an agreement.
        """
        known = agreement[np.isfinite(agreement)]
        if not len(known):
            return float("nan"), float("nan"), float("nan")
        lds = self.intercept + self.slope * float(known.mean())
        ends = (min(max(end, -1.0), 1.0) for end in (lds, lds + self.low, lds + self.high))
        return tuple(ends)  # type: ignore[return-value]

    def verdict(self, agreement: Float64[np.ndarray, " m"]) -> str:
        """Return in a sentence whether answers with this agreement speak for the network trained again."""
        lds, low, high = self.mean_lds(agreement)
        if np.isnan(lds):
            return "Verdict: none, as no training example moves any query."
        trusted = int((agreement >= self.threshold).sum())
        if low >= SPEAKS:
            speaks = "these answers speak for the network trained again"
        elif high >= SPEAKS / 2:
            speaks = "these answers speak in part for the network trained again"
        else:
            speaks = "these answers do not speak for the network trained again"
        return (
            f"Verdict: for groups of examples {speaks}, with a rank correlation of {number(lds, 2)} "
            f"({number(low, 2)} to {number(high, 2)}) to be expected; trust those about {trusted} of "
            f"{len(agreement)} queries, and the order of single examples little."
        )

    def basis(self, agreement: Float64[np.ndarray, " m"]) -> str:
        """Return what the verdict rests on, in two sentences; empty where there is none."""
        if not np.isfinite(agreement).any():
            return ""
        mean, least, most = (number(share, 2) for share in self.seeds_agree)
        return (
            "A second model, which knows the architecture and no weight, agrees with these answers by "
            f"{number(float(np.nanmean(agreement)), 2)} in the mean, and {self.networks} networks that were "
            "trained again tell what that is worth. Of a single example much is noise of the training's "
            f"seed: two seeds agreed by {mean} in the mean of {self.single_networks} networks ({least} to "
            f"{most})."
        )

    @property
    def per_query(self) -> str:
        """Return how often a query was rightly trusted, in a sentence."""
        (right, low, high), (other, _, _) = self.trusted, self.noise
        return (
            f"On {self.networks} other networks {percent(right, 0)} ({percent(low, 0)} to "
            f"{percent(high, 0)}) of the queries trusted like this had answers that ordered halves of the "
            f"training examples with a rank correlation of {number(self.good, 1)} or more with real "
            f"training, and {percent(other, 0)} of the others."
        )


CALIBRATION = Calibration(
    source="records/2026-11-30-verdict",
    networks=38,
    queries=4558,
    good=0.5,
    threshold=0.65,
    trusted=(0.807, 0.73, 0.866),
    noise=(0.345, 0.261, 0.442),
    intercept=-0.078,
    slope=0.93,
    low=-0.119,
    high=0.153,
    single_networks=8,
    seeds_agree=(0.196, -0.032, 0.525),
)
"""Of `benchmarks/verdict.py`; a test computes it from the record."""
