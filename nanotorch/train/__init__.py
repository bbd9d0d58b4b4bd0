"""Training from a config: `python -m nanotorch.train configs/digits_mlp.yaml`.

`config` reads and checks a config, `data` gives the rows, `model` the model, and `fit` trains; `run` is all of it.
"""
