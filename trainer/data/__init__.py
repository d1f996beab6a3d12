"""Images on their way from a dataset to the model: splits -> store -> batches -> pipeline.

`splits.open_data` decides which images serve for what, `opening` and `cache` decode them once, `store` holds them,
`readers` read ahead what cannot be held, `batches` orders and gathers, `pipeline` augments and normalises whole chunks.
"""
