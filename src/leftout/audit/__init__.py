"""The whole audit of a data set: fit, leave everything out, list, report, keep."""
