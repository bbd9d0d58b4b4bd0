"""Optimizers and learning-rate schedules."""

from nanotorch.optim import lr_scheduler
from nanotorch.optim.adagrad import Adagrad
from nanotorch.optim.adam import Adam, AdamW
from nanotorch.optim.optimizer import Optimizer
from nanotorch.optim.rmsprop import RMSprop
from nanotorch.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
