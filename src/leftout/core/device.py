"""The device to compute on, checked to exist on this machine."""

import torch

from leftout.core.checks import shown
from leftout.core.errors import OptionError


def usable_device(device: torch.device | str) -> torch.device:
    """Return the device, after allocating a number on it.

    Raises:
        OptionError: not a device that this machine and this torch have.

    Example:
        >>> usable_device("cpu")
        device(type='cpu')
    """
    try:
        usable = torch.device(device)
        torch.zeros(1, dtype=torch.float64, device=usable).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError):
        asked_for = str(device) if isinstance(device, torch.device) else device
        here = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise OptionError(
            f"`device` must be one that this machine has, {' or '.join(here)}; got {shown(asked_for)}."
        ) from None
    return usable
