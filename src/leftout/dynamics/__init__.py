"""Training as a function of the spectrum: rules, and the model they fit."""

from typing import TYPE_CHECKING

from leftout.core.exports import exports

if TYPE_CHECKING:
    from leftout.dynamics.curvature import Curvature as Curvature
    from leftout.dynamics.wide import WideNetwork as WideNetwork
else:
    __all__, __getattr__, __dir__ = exports(__spec__)
