"""Images on their way from a dataset to the model: splits -> store -> batches -> pipeline.

`splits.open_data` decides which images serve for what, `store` keeps them decoded, `batches` orders and gathers them,
`pipeline` augments and normalises whole chunks.
"""
