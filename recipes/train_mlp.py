"""The whole training loop in the open: one readable file, driven by a config of configs/.

The loop of `python -m nanotorch.train CONFIG` without run directory, checkpoints, signals, weights of classes, factors
of rates and robust scales. Copy it to change the loop: that is what it is for.

    python recipes/train_mlp.py configs/digits_mlp.yaml [key=value ...]

Expected output (with train.epochs=3; the last digits depend on the machine):

    digits_mlp: 1259 training, 179 validation, 359 test rows
    epoch 1/3  loss 1.5500  validation accuracy 0.8492
    epoch 2/3  loss 0.6470  validation accuracy 0.9609
    epoch 3/3  loss 0.4764  validation accuracy 0.9888
    best epoch 3  test loss 0.4521  test accuracy 0.9721
"""

import copy
import math
import sys
from itertools import islice

import nanotorch as torch
from nanotorch import nn
from nanotorch.optim.lr_scheduler import ReduceLROnPlateau
from nanotorch.registry import LOSSES, MODELS, OPTIMIZERS, SCHEDULERS
from nanotorch.train.config import loading as configs
from nanotorch.train.data import datasets
from nanotorch.train.data.split import split
from nanotorch.train.data.standardizer import Standardizer
from nanotorch.train.data.table import Table
from nanotorch.utils.data import DataLoader, TensorDataset


def main(path: str, overrides: list[str]) -> None:
    """Train, choose the epoch with the best validation score, test it."""
    config = configs.load(path, overrides)
    table = datasets.load(config.data.name, config.data.arguments, config.seed)
    splits = split(table, config.data.test_size, config.data.validation_size, config.seed)
    regression, binary = table.task == "regression", table.task == "binary"
    dtype, device = getattr(torch, config.dtype), "cpu" if config.device == "auto" else config.device

    # Statistics of the training part alone: the other parts stand for data that does not exist yet.
    scale_features = scale_targets = lambda values: values
    if config.data.standardize:
        scale_features = Standardizer.fit(splits.train.features).transform
    if regression and config.data.standardize_target is not False:
        scale_targets = Standardizer.fit(splits.train.targets).transform

    def dataset(part: Table) -> TensorDataset:
        features = torch.tensor(scale_features(part.features), dtype=dtype, device=device)
        targets = torch.tensor(scale_targets(part.targets), device=device)
        if table.task != "multiclass":  # a column for each output, as the losses want it
            targets = targets.reshape(len(part), -1).to(dtype)
        return TensorDataset(features, targets)

    train, validation, test = dataset(splits.train), dataset(splits.validation), dataset(splits.test)
    print(f"{config.name}: {len(train)} training, {len(validation)} validation, {len(test)} test rows")

    torch.manual_seed(config.seed)  # weights, dropout and the order of the rows
    widths = table.features.shape[1], 1 if binary else len(table.target_names)
    model = MODELS.get(config.model.name)(*widths, **config.model.arguments).to(device, dtype)
    criterion = LOSSES.get(config.loss.name)(**config.loss.arguments)
    optimizer = OPTIMIZERS.get(config.optimizer.name)(model.parameters(), **config.optimizer.arguments)
    loader = DataLoader(train, config.train.batch_size, shuffle=True, drop_last=config.train.drop_last)
    scheduler = None
    if config.scheduler is not None:
        name, steps = config.scheduler.name, math.ceil(len(loader) / config.train.accumulate)
        planned = config.train.epochs * (steps if config.scheduler.interval == "step" else 1)
        scheduler = SCHEDULERS.get(name)(optimizer, **SCHEDULERS.lasting(name, config.scheduler.arguments, planned))

    def evaluate(data: TensorDataset) -> tuple[float, float]:
        """The loss, and accuracy or R2 (which does not depend on the units)."""
        features, targets = data.tensors
        model.eval()
        with torch.no_grad():
            outputs = model(features)
            loss = criterion(outputs, targets).item()
        if regression:
            return loss, (1 - ((outputs - targets) ** 2).mean(0) / targets.var(0, correction=0)).mean().item()
        right = (outputs > 0) == (targets > 0.5) if binary else outputs.argmax(1) == targets
        return loss, right.float().mean().item()

    score_name = "R2" if regression else "accuracy"
    best_score, best_epoch, best_state = (-math.inf, -math.inf), 0, model.state_dict()
    for epoch in range(1, config.train.epochs + 1):
        model.train()
        total, batches = 0.0, iter(loader)
        while window := list(islice(batches, config.train.accumulate)):
            rows = sum(len(targets) for _, targets in window)
            optimizer.zero_grad()
            for features, targets in window:  # one step from all of them, each by its share of the rows
                outputs, share = model(features), len(targets) / rows
                if outputs.ndim == 3:  # (rows, members, outputs): the members of an ensemble learn alone
                    outputs, targets = outputs.flatten(0, 1), targets.repeat_interleave(outputs.shape[1], 0)
                loss = criterion(outputs, targets) * share
                loss.backward()
                total += loss.item() * rows
            nn.utils.clip_grad_norm_(model.parameters(), config.train.clip_norm or math.inf)
            optimizer.step()
            if scheduler is not None and config.scheduler.interval == "step":
                scheduler.step()
        validation_loss, score = evaluate(validation)
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(validation_loss)
        elif scheduler is not None and config.scheduler.interval == "epoch":
            scheduler.step()
        if (score, -validation_loss) > best_score:
            best_score, best_epoch, best_state = (score, -validation_loss), epoch, copy.deepcopy(model.state_dict())
        number = f"{epoch}/{config.train.epochs}"
        print(f"epoch {number}  loss {total / len(train):.4f}  validation {score_name} {score:.4f}")

    model.load_state_dict(best_state)
    test_loss, score = evaluate(test)
    print(f"best epoch {best_epoch}  test loss {test_loss:.4f}  test {score_name} {score:.4f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit("usage: python recipes/train_mlp.py CONFIG [key=value ...]")
    main(sys.argv[1], sys.argv[2:])
