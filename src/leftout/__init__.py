"""leftout: what would your network say if this training example had been left out?

    train, query = leftout.load("digits")
    fitted = leftout.fit(leftout.kernels.TwoLayerReLU(), train, rule=leftout.Ridge(1.0))
    scores = leftout.leave_one_out(fitted, query)        # (query, train), positive = it helped
"""

from leftout import kernels as kernels
from leftout.app.audit import audit as audit
from leftout.app.run import open_run as open
from leftout.attribution.certify import certify as certify
from leftout.attribution.edits import add as add
from leftout.attribution.edits import relabel as relabel
from leftout.attribution.edits import reweight as reweight
from leftout.attribution.leave_one_out import leave_one_out as leave_one_out
from leftout.attribution.leave_one_out import out_of_sample as out_of_sample
from leftout.attribution.leave_out import leave_out as leave_out
from leftout.core.errors import LeftoutError as LeftoutError
from leftout.core.version import __version__ as __version__
from leftout.data.examples import Examples as Examples
from leftout.data.load import load as load
from leftout.dynamics.fitted import Fitted as Fitted
from leftout.dynamics.fitted import fit as fit
from leftout.dynamics.rules import GradientDescent as GradientDescent
from leftout.dynamics.rules import GradientFlow as GradientFlow
from leftout.dynamics.rules import Ridge as Ridge
