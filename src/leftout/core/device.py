"""Where is it computed? On a device that this machine really has."""

import torch

from leftout.core.errors import OptionError


def usable_device(device: torch.device | str) -> torch.device:
    """Return the device, after one number was put on it.

    Raises:
        OptionError: no device, or none that this machine and this torch have.

    Example:
        >>> usable_device("cpu")
        device(type='cpu')
    """
    try:
        found = torch.device(device)
        torch.zeros(1, dtype=torch.float64, device=found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError):
        # What torch says fills a screen; the devices that there are say what to do.
        here = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise OptionError(
            f"`device` must be one that this machine has, {' or '.join(here)}; got {str(device)!r}."
        ) from None
    return found
