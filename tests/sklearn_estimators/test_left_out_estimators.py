"""LeftOutRegressor and LeftOutClassifier keep the conventions of scikit-learn, and say what refits say."""

import pickle

import numpy as np
import pytest
from laws import assert_same
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import leftout as lo

ESTIMATORS = [
    lo.LeftOutRegressor(),
    lo.LeftOutClassifier(),
    lo.LeftOutRegressor(kernel=lo.kernels.Erf(1, bias_variance=0.1), ridge=0.1, standardise=False),
    lo.LeftOutClassifier(kernel=lo.kernels.ReLU(1, bias_variance=0.1), ridge=0.1),
]


@pytest.mark.usefixtures("as_users_run_it")
@parametrize_with_checks(ESTIMATORS)
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)
