"""A trained network as one file that takes pictures and gives probabilities, proved to answer as the run does.

whole.py       network, preprocessing and temperature as one module; what a graph cannot hold is refused here
formats.py     what formats there are and what they need
about.py       what the file says of itself
writing.py     the module as ONNX or as torch.export's own format
int8.py        an ONNX file in whole numbers
standalone.py  answers from a file without this package: what a fresh process runs
proof.py       the run's answers against the file's, picture by picture
parting.py     at which layer they part
card.py        what was found, for people
exporting.py   the order of all that
exported.py    a file in use: for `serve` and scripts; measuring.py for `evaluate`
"""
