"""The layers and losses: modules over the operators of `nanotorch.nn.functional`."""
