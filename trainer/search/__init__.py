"""Many runs from one file: what is searched, who runs which trial, and what their differences are worth.

A trial is an ordinary run folder. Optuna says which values come next and keeps the trials' records; which folder
belongs to which trial, who works on it and how it goes on is ours.
"""
