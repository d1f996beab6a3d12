"""Datasets a recipe may name: our own readers (cifar, folder), drawn shapes, and the table of torchvision's.

Every entry answers to `registry.contracts.ImageSource`. Nothing here imports torch; torchvision is imported only when
one of its datasets is opened.
"""
