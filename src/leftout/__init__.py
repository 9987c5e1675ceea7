"""What would your network say if this training example had been left out?

>>> import leftout as lo
>>> train, query = lo.load("digits")
>>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(1.0))
>>> lo.leave_one_out(fitted, query).dims  # positive = the example helped
('query', 'train')
"""

from typing import TYPE_CHECKING

import leftout.audit
from leftout.core.exports import exports

# The room is bound here once, so that importing it later does not hide the function of the same name.
del leftout.audit

if TYPE_CHECKING:
    from leftout import cluster as cluster
    from leftout import kernels as kernels
    from leftout.attribution import weight_noise as weight_noise
    from leftout.attribution.certify import certify as certify
    from leftout.attribution.edits import add as add
    from leftout.attribution.edits import relabel as relabel
    from leftout.attribution.edits import reweight as reweight
    from leftout.attribution.first_order import first_order as first_order
    from leftout.attribution.influence_function import influence_function as influence_function
    from leftout.attribution.information import information as information
    from leftout.attribution.leave_one_out import leave_one_out as leave_one_out
    from leftout.attribution.leave_one_out import out_of_sample as out_of_sample
    from leftout.attribution.leave_out import leave_out as leave_out
    from leftout.attribution.trajectory import trajectory as trajectory
    from leftout.audit.audit import Audit as Audit
    from leftout.audit.audit import audit as audit
    from leftout.audit.run_folder import Run as Run
    from leftout.audit.run_folder import damaged_files as damaged_files
    from leftout.audit.run_folder import open as open
    from leftout.core.errors import ExpansionWarning as ExpansionWarning
    from leftout.core.errors import LeftoutError as LeftoutError
    from leftout.core.errors import NotConvergedWarning as NotConvergedWarning
    from leftout.core.errors import WeightsWarning as WeightsWarning
    from leftout.core.version import __version__ as __version__
    from leftout.curation.learned import learned as learned
    from leftout.curation.prune import Pruned as Pruned
    from leftout.curation.prune import prune as prune
    from leftout.curation.prune_check import prune_check as prune_check
    from leftout.curation.rare import outliers as outliers
    from leftout.curation.rare import rare as rare
    from leftout.curation.sources import sources as sources
    from leftout.curation.subclasses import subclasses as subclasses
    from leftout.curation.suspects import suspects as suspects
    from leftout.data.examples import Examples as Examples
    from leftout.data.load import load as load
    from leftout.diagnostics.complexity import complexity as complexity
    from leftout.diagnostics.eigenlearning.learnability import Learnability as Learnability
    from leftout.diagnostics.eigenlearning.learnability import from_modes as from_modes
    from leftout.diagnostics.eigenlearning.learnability import learnability as learnability
    from leftout.diagnostics.eigenlearning.transfer import data_learnability as data_learnability
    from leftout.diagnostics.eigenlearning.transfer import transfer as transfer
    from leftout.diagnostics.influence_error import bounds as bounds
    from leftout.diagnostics.influence_error.error_rates import error_rates as error_rates
    from leftout.diagnostics.learning_curve.learning_curve import learning_curve as learning_curve
    from leftout.diagnostics.learning_curve.record import LearningCurve as LearningCurve
    from leftout.diagnostics.linearity.linearisation_gap import linearisation_gap as linearisation_gap
    from leftout.diagnostics.linearity.linearity_test import LinearityTest as LinearityTest
    from leftout.diagnostics.linearity.linearity_test import linearity_test as linearity_test
    from leftout.diagnostics.locality.elasticity import elasticity as elasticity
    from leftout.diagnostics.locality.hoeffding import hoeffding as hoeffding
    from leftout.diagnostics.model_selection import Selection as Selection
    from leftout.diagnostics.model_selection import choose_kernel as choose_kernel
    from leftout.diagnostics.model_selection import choose_strength as choose_strength
    from leftout.diagnostics.referee.consensus import consensus as consensus
    from leftout.diagnostics.referee.referee import referee as referee
    from leftout.diagnostics.referee.refit_subsets import refit_subsets as refit_subsets
    from leftout.diagnostics.retraining.agreement import agreement as agreement
    from leftout.diagnostics.retraining.retrain import retrain as retrain
    from leftout.diagnostics.retraining.retrain_subsets import retrain_subsets as retrain_subsets
    from leftout.diagnostics.retraining.sgd_training import SGDTraining as SGDTraining
    from leftout.diagnostics.retraining.subsets import random_subsets as random_subsets
    from leftout.diagnostics.retraining.subsets import removal_subsets as removal_subsets
    from leftout.diagnostics.trust.ridge_from_loss import ridge_from_loss as ridge_from_loss
    from leftout.diagnostics.trust.trust import trust as trust
    from leftout.dynamics.choose_ridge import choose_ridge as choose_ridge
    from leftout.dynamics.ensemble import Ensemble as Ensemble
    from leftout.dynamics.ensemble import ensemble as ensemble
    from leftout.dynamics.ensemble import posterior as posterior
    from leftout.dynamics.fit import fit as fit
    from leftout.dynamics.fitted import Fitted as Fitted
    from leftout.dynamics.fitted_estimator import FittedEstimator as FittedEstimator
    from leftout.dynamics.fitted_networks import FittedNetworks as FittedNetworks
    from leftout.dynamics.linearised_module import linearised_module as linearised_module
    from leftout.dynamics.nystrom import Nystrom as Nystrom
    from leftout.dynamics.ridge_choice import RidgeChoice as RidgeChoice
    from leftout.dynamics.rules import GradientDescent as GradientDescent
    from leftout.dynamics.rules import GradientFlow as GradientFlow
    from leftout.dynamics.rules import Logistic as Logistic
    from leftout.dynamics.rules import Ridge as Ridge
    from leftout.dynamics.train import Trained as Trained
    from leftout.dynamics.train import train as train
    from leftout.dynamics.training_ridge import training_ridge as training_ridge
    from leftout.dynamics.two_layer import TwoLayerNetwork as TwoLayerNetwork
    from leftout.report.score_plot import plot as plot
    from leftout.sklearn_estimators.from_sklearn import from_sklearn as from_sklearn
    from leftout.sklearn_estimators.left_out_classifier import LeftOutClassifier as LeftOutClassifier
    from leftout.sklearn_estimators.left_out_regressor import LeftOutRegressor as LeftOutRegressor
    from leftout.solvers.conjugate_gradients import ConjugateGradients as ConjugateGradients
    from leftout.solvers.dense_curvature import Exact as Exact
    from leftout.solvers.lissa import LiSSA as LiSSA
    from leftout.storage.peer_scores import read_scores as read_scores
else:
    __all__, __getattr__, __dir__ = exports(__spec__)
