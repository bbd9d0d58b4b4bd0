"""Optimizers and learning-rate schedules."""

from nanotorch.optim import adam, lr_scheduler, optimizer, sgd, swa_utils
from nanotorch.optim.adadelta import Adadelta
from nanotorch.optim.adagrad import Adagrad
from nanotorch.optim.adam import Adam, AdamW
from nanotorch.optim.adamax import Adamax
from nanotorch.optim.asgd import ASGD
from nanotorch.optim.lbfgs import LBFGS
from nanotorch.optim.nadam import NAdam
from nanotorch.optim.optimizer import Optimizer
from nanotorch.optim.radam import RAdam
from nanotorch.optim.rmsprop import RMSprop
from nanotorch.optim.rprop import Rprop
from nanotorch.optim.sgd import SGD

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "adam",
    "lr_scheduler",
    "optimizer",
    "sgd",
    "swa_utils",
]
