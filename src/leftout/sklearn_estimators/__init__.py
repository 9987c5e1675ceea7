"""Estimators of scikit-learn: fitted ones that questions are asked of, and ones that answer as they are fitted."""
