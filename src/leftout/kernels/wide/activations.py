"""Activation functions and their first three derivatives.

relu   z 1{z > 0}      1{z > 0}, and none beyond: its kink is not counted
tanh   tanh z          1 − s²,  −2 s s',  s' (6 s² − 2)
erf    erf z           2 e^{−z²} / √π,  −2 z s',  (4 z² − 2) s'
gelu   z Φ(z)          Φ + z φ,  (2 − z²) φ,  (z³ − 4 z) φ
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.kernels.wide.options import Activation


class Response(NamedTuple):
    """Values and derivatives of an activation; None where they are 0 almost everywhere."""

    value: Float64[Tensor, "n r"]
    first: Float64[Tensor, "n r"]
    second: Float64[Tensor, "n r"] | None
    third: Float64[Tensor, "n r"] | None


def response(activation: Activation, z: Float64[Tensor, "n r"]) -> Response:
    """Return the activation and its three derivatives at every pre-activation."""
    if activation == "relu":
        return Response(z.relu(), (z > 0).to(z), None, None)
    if activation == "tanh":
        tanh = torch.tanh(z)
        slope = 1 - tanh.square()
        return Response(tanh, slope, -2 * tanh * slope, slope * (6 * tanh.square() - 2))
    if activation == "erf":
        slope = torch.exp(-z.square()).mul_(2 / math.sqrt(math.pi))
        return Response(torch.erf(z), slope, -2 * z * slope, (4 * z.square() - 2) * slope)
    density = torch.exp(-z.square() / 2).div_(math.sqrt(2 * math.pi))
    share = torch.special.ndtr(z)
    second, third = (2 - z.square()) * density, (z.square() - 4) * z * density
    return Response(z * share, share + z * density, second, third)
