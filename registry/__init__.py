"""What a recipe may name: models, datasets, transforms, losses, optimizers, ... and the table that lists them.

Knows nothing of `trainer`, which decides what happens to a recipe. Importing this package imports no torch:
`registry.slots` is the table, `registry.catalog` the mechanism, everything else the components themselves.
"""
