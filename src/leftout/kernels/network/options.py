"""Options of the tangent kernel of a user's own network. Loads no torch."""

from dataclasses import dataclass
from typing import Literal

from leftout.core.options import OptionRecord, option

Outputs = Literal["full", "sum", "trace"]
Weights = Literal["trained", "initial"]


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(OptionRecord):
    """Options of `Empirical`."""

    panel = "Network"

    model: str | None = option(
        None,
        "A network of your own: FILE.py:FUNCTION returning an nn.Module; linearised at its weights.",
        common=True,
    )
    weights: str | None = option(
        None, "Its weights: FILE.safetensors, or a state dict by torch.save.", common=True
    )
    linearised_at: Weights | None = option(
        None,
        "Weights trained on this data, where the model is the network as it stands (with --weights), or "
        "initial ones, where training starts (without).",
    )
    parameters: tuple[str, ...] = option(
        (),
        "Parameters that the model moves: by pattern (fc.*), again for each; last:N, of the last N layers; "
        "or all. By default all; of trained weights as many last layers as take about a minute.",
    )
    outputs: Outputs = option("full", "Outputs told apart, exactly; or as one kernel for all, approximately.")
    projection: str | None = option(
        None,
        "Shorten the Jacobian's rows: coordinates:2000 (of each tensor), gaussian:SIZE, rademacher:SIZE, "
        "sparse:SIZE.",
    )
