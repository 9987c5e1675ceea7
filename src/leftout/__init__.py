"""What would your network say if this training example had been left out?

>>> import leftout as lo
>>> train, query = lo.load("digits")
>>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(1.0))
>>> lo.leave_one_out(fitted, query).dims  # positive = the example helped
('query', 'train')
"""

from leftout import kernels
from leftout.attribution import weight_noise as smoothing
from leftout.attribution.certify import certify
from leftout.attribution.edits import add, relabel, reweight
from leftout.attribution.first_order import first_order
from leftout.attribution.influence_function import influence_function
from leftout.attribution.information import information
from leftout.attribution.leave_one_out import leave_one_out, out_of_sample
from leftout.attribution.leave_out import leave_out
from leftout.attribution.trajectory import trajectory
from leftout.audit.audit import Audit, audit
from leftout.audit.run_folder import Run
from leftout.audit.run_folder import open_run as open
from leftout.core.errors import ExpansionWarning, LeftoutError, NotConvergedWarning
from leftout.core.version import __version__
from leftout.curation.learned import learned
from leftout.curation.prune import Pruned, prune
from leftout.curation.prune_check import prune_check
from leftout.curation.rare import outliers, rare
from leftout.curation.sources import sources
from leftout.curation.subclasses import subclasses
from leftout.data.examples import Examples
from leftout.data.load import load
from leftout.diagnostics.complexity import complexity
from leftout.diagnostics.eigenlearning.learnability import Learnability, from_modes, learnability
from leftout.diagnostics.eigenlearning.transfer import data_learnability, transfer
from leftout.diagnostics.influence_error import bounds
from leftout.diagnostics.influence_error.error_rates import error_rates
from leftout.diagnostics.learning_curve.learning_curve import learning_curve
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.diagnostics.linearity.linearisation_gap import linearisation
from leftout.diagnostics.linearity.linearity_test import Linearity, linearity
from leftout.diagnostics.locality.elasticity import elasticity
from leftout.diagnostics.locality.hoeffding import hoeffding
from leftout.diagnostics.model_selection import Selection, choose_kernel, choose_strength
from leftout.diagnostics.retraining.agreement import agreement
from leftout.diagnostics.retraining.retrain import retrain
from leftout.dynamics.ensemble import Ensemble, ensemble, posterior
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.linearised import linearised
from leftout.dynamics.rules import GradientDescent, GradientFlow, Ridge
from leftout.dynamics.train import Trained, train
from leftout.dynamics.two_layer import TwoLayerNetwork
from leftout.solvers.conjugate_gradients import ConjugateGradients
from leftout.solvers.dense_curvature import Exact
from leftout.solvers.lissa import LiSSA

__all__ = [
    "Audit",
    "ConjugateGradients",
    "Ensemble",
    "Exact",
    "Examples",
    "ExpansionWarning",
    "Fitted",
    "GradientDescent",
    "GradientFlow",
    "Learnability",
    "LearningCurve",
    "LeftoutError",
    "LiSSA",
    "Linearity",
    "NotConvergedWarning",
    "Pruned",
    "Ridge",
    "Run",
    "Selection",
    "Trained",
    "TwoLayerNetwork",
    "__version__",
    "add",
    "agreement",
    "audit",
    "bounds",
    "certify",
    "choose_kernel",
    "choose_strength",
    "complexity",
    "data_learnability",
    "elasticity",
    "ensemble",
    "error_rates",
    "first_order",
    "fit",
    "from_modes",
    "hoeffding",
    "influence_function",
    "information",
    "kernels",
    "learnability",
    "learned",
    "learning_curve",
    "leave_one_out",
    "leave_out",
    "linearisation",
    "linearised",
    "linearity",
    "load",
    "open",
    "out_of_sample",
    "outliers",
    "posterior",
    "prune",
    "prune_check",
    "rare",
    "relabel",
    "retrain",
    "reweight",
    "smoothing",
    "sources",
    "subclasses",
    "train",
    "trajectory",
    "transfer",
]
