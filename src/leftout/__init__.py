"""What would your network say if this training example had been left out?

>>> import leftout as lo
>>> train, query = lo.load("digits")
>>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(1.0))
>>> lo.leave_one_out(fitted, query).dims  # positive = the example helped
('query', 'train')
"""

from leftout import kernels
from leftout.app.audit import Audit, audit
from leftout.app.run import Run
from leftout.app.run import open_run as open
from leftout.attribution.certify import certify
from leftout.attribution.edits import add, relabel, reweight
from leftout.attribution.leave_one_out import leave_one_out, out_of_sample
from leftout.attribution.leave_out import leave_out
from leftout.core.errors import LeftoutError
from leftout.core.version import __version__
from leftout.data.examples import Examples
from leftout.data.load import load
from leftout.dynamics.fitted import Fitted, fit
from leftout.dynamics.rules import GradientDescent, GradientFlow, Ridge

__all__ = [
    "Audit",
    "Examples",
    "Fitted",
    "GradientDescent",
    "GradientFlow",
    "LeftoutError",
    "Ridge",
    "Run",
    "__version__",
    "add",
    "audit",
    "certify",
    "fit",
    "kernels",
    "leave_one_out",
    "leave_out",
    "load",
    "open",
    "out_of_sample",
    "relabel",
    "reweight",
]
