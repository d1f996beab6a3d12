"""The stages of a run: find the learning rate, fit, evaluate, report. Each returns a typed result."""
