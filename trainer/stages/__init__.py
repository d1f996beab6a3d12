"""The stages of a run: find the learning rate, fit, evaluate, report. Each takes the experiment and returns a typed result."""
