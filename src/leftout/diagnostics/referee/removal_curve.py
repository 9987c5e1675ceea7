"""How does the loss rise as the examples go that scores call helpful? Beside random ones, with intervals."""

from typing import Any

import numpy as np
import xarray as xr

from leftout.core.errors import OptionError


def removal_curve(losses: xr.Dataset, resamples: int, level: float, seed: int) -> xr.Dataset:
    """Return the mean loss over queries without the examples of each kind, and its rise over random ones."""
    values = losses.loss.mean("seed") if "seed" in losses.loss.dims else losses.loss
    by_name: dict[tuple[str, float], list[np.ndarray]] = {}
    for name in losses["subset"].values.tolist():
        kind, _, share = str(name).partition(" ")
        try:
            place = kind, float(share.partition(" ")[0])
        except ValueError:
            raise OptionError(f"`removal` must hold subsets of `removal_subsets`; got {name!r}.") from None
        by_name.setdefault(place, []).append(values.sel(subset=name).values)
    kinds = list(dict.fromkeys(kind for kind, _ in by_name))
    shares = sorted({share for _, share in by_name})
    # (kind, share, m)
    mean = np.array([[np.mean(by_name[kind, share], axis=0) for share in shares] for kind in kinds])
    drawn = np.random.default_rng(seed).integers(mean.shape[2], size=(resamples, mean.shape[2]))
    variables: dict[str, Any] = {"removal_loss": (("removed", "share_removed"), mean.mean(2))}
    if "random" in kinds:
        rise = mean - mean[kinds.index("random")]
        resampled = rise[:, :, drawn].mean(3)  # (kind, share, b)
        low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=2)
        for name, numbers in (("rise", rise.mean(2)), ("rise_low", low), ("rise_high", high)):
            variables[f"removal_{name}"] = (("removed", "share_removed"), numbers)
    return xr.Dataset(variables, coords={"removed": np.asarray(kinds), "share_removed": np.asarray(shares)})
