"""Training from a config: `python -m nanotorch.train configs/digits_mlp.yaml`.

`config` reads and checks a config, `datasets` gives the data, `models` the model, and `loop` trains.
"""
