"""Which examples should a person look at, and why?"""
