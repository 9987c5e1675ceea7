"""Estimators of scikit-learn: fitted ones to ask, and two that answer as they are fitted."""
