"""Learning-rate schedules: each `step()` writes the next rate into `group["lr"]` of every parameter group.

All of them but `LambdaLR`, `OneCycleLR`, `CosLogLR`, `CyclicLR` and `CosineAnnealingWarmRestarts` compute the next rate
from the present one, so several can be chained on one optimizer and multiply. The formulas are PyTorch's, hence so are
the sequences of rates; `CosLogLR` is one that PyTorch does not have.
"""

from nanotorch.optim.lr_scheduler.cycles import CosineAnnealingWarmRestarts, CosLogLR, CyclicLR, OneCycleLR
from nanotorch.optim.lr_scheduler.decay import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from nanotorch.optim.lr_scheduler.functions import LambdaLR, MultiplicativeLR
from nanotorch.optim.lr_scheduler.plateau import ReduceLROnPlateau
from nanotorch.optim.lr_scheduler.scheduler import LRScheduler
from nanotorch.optim.lr_scheduler.several import ChainedScheduler, SequentialLR

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosLogLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
