"""Runs side by side: which are meant, what they differ in, which of them are one configuration, how they rank.

    words -> finding -> runs -> differences -> rows -> forms (csv, json, markdown), page

Knows run folders and recipes; trains nothing and prints nothing. What a terminal shows is trainer/cli/comparing.py.
"""
