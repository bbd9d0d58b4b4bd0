"""Whether a checkpoint fits what it is to be loaded into: its tensors the model, its numbers the training."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.optim import Optimizer
from nanotorch.train.record.checkpoint import Checkpoint, CheckpointError
from nanotorch.train.record.records import unlike
from nanotorch.train.terminal.standard_streams import printable


def fitting(path: Path, saved: Mapping[str, Tensor], model: nn.Module, another_dtype: bool = False) -> None:
    """Raise a CheckpointError where tensors of a file are not those of the model, or have numbers that no model has.

    They may differ in names, shapes and types.
    """
    built, parameters = model.state_dict(), {name for name, _ in model.named_parameters()}
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (saved, built)]
    lines = []
    for name in {**shapes[0], **shapes[1]}:
        before, now, place = shapes[0].get(name), shapes[1].get(name), printable(name, kept="")
        if before != now:
            lines.append(
                f"{place}: {'absent' if before is None else before} in the checkpoint,"
                f" {'absent' if now is None else now} in the model"
            )
        elif saved[name].dtype != built[name].dtype and not (another_dtype and saved[name].is_floating_point()):
            lines.append(f"{place}: {saved[name].dtype} in the checkpoint, {built[name].dtype} in the model")
    if lines:
        told = f"{path} is of another model than resolved.yaml and state.json say:"
        raise CheckpointError("\n  ".join([told, *lines]))
    for name, tensor in saved.items():
        values = tensor.numpy()
        if np.isnan(values).any() or (name in parameters and np.isinf(values).any()):
            raise CheckpointError(f"{path} is damaged: {name} holds numbers that are not finite")


def damage(saved: Checkpoint, now: Mapping[str, Any], optimizer: Optimizer, changed: Collection[str]) -> str | None:
    """Return what of a checkpoint is not as it would be saved now, with the file and its key; None where all is well.

    `now` is the state that would be saved, with sums, of the training that is to continue with the optimizer.
    """
    state, schedule = saved.state, now["scheduler"]
    sections = {key.split(".")[0] for key in changed}
    for key in ("shuffle", "dropout"):
        if told := unlike(state["generators"][key], now["generators"][key], f"generators.{key}"):
            return f"state.json: {told}"
    if state["training_sums"] is not None:
        sums = {"finite": True, **state["training_sums"]}  # checkpoints of before do not say
        if told := unlike(sums, now["training_sums"], "training_sums"):
            return f"state.json: {told}"
    if (now["average"] is None) != (state["average"] is None) and "train.ema" not in changed:
        return f"state.json: average is {state['average']}, which does not fit train.ema of the config"
    if (saved.training is None) != (state["average"] is None):
        return "training.safetensors does not fit what state.json says of the average"
    if not sections & {"optimizer", "scheduler"}:
        if (schedule is None) != (state["scheduler"] is None):
            return "state.json: scheduler does not fit the scheduler of the config"
        same_length = schedule is not None and lengths(schedule) == lengths(state["scheduler"])
        if same_length and (told := unlike(state["scheduler"], schedule, "scheduler")):
            return f"state.json: {told}"
        if told := unlike(saved.optimizer.get("param_groups"), optimizer.state_dict()["param_groups"], "param_groups"):
            return f"optimizer.json: {told}"
        if told := _infinite(saved.optimizer["param_groups"], "param_groups"):
            return f"optimizer.json: {told}"
    if "optimizer" in sections:
        return None
    if state["optimizer"] != type(optimizer).__name__:
        return f"state.json: optimizer is {state['optimizer']!r}, and the config's is {type(optimizer).__name__}"
    unknown = next((key for key in saved.optimizer if key not in ("state", "param_groups")), None)
    if unknown is not None:
        return f"optimizer.json: {unknown} is not known here"
    moments, count = saved.optimizer["state"], 0
    for group in optimizer.param_groups:
        for number, parameter in enumerate(group["params"], start=count):
            kinds = {name: name in optimizer.number_names for name in optimizer.state_names(group)}
            if told := _damaged_moments(moments.get(number), f"state.{number}", kinds, parameter, "dtype" in changed):
                return f"optimizer.safetensors: {told}"
        count += len(group["params"])
    if len(moments) != state.get("moments", len(moments)) or any(number not in range(count) for number in moments):
        return (
            f"optimizer.json: state has values for {len(moments)} of {count} parameters, and not for those that"
            " state.json counts"
        )
    return None


def lengths(schedule: Mapping[str, Any]) -> list[Any]:
    """Return for how many epochs or steps a schedule and those within it are made: of another number it is another."""
    inner = [length for one in schedule.get("_schedulers", ()) for length in lengths(one)]
    return [schedule.get("total_steps"), *inner]


def _damaged_moments(
    found: Any, key: str, kinds: Mapping[str, bool], parameter: Tensor, another_dtype: bool
) -> str | None:
    """Return what of a parameter's saved state of the optimizer cannot be;
    a parameter that never had a gradient has none.

    `kinds` says of each name whether it is one number, such as a count, or has one for each of the parameter.
    """
    if not found:
        return None if found is None or (found == {} and not kinds) else f"{key} is empty"
    for name in {**kinds, **found}:
        if name not in kinds or name not in found:
            return f"{key}.{name} is {'missing' if name in kinds else 'not known here'}"
        value, shape = found[name], () if kinds[name] else tuple(parameter.shape)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return f"{key}.{name} is no tensor of floating-point numbers"
        if tuple(value.shape) != shape:
            return f"{key}.{name} has the shape {tuple(value.shape)}, and not {shape}"
        dtypes = (torch.float64, torch.float32) if kinds[name] else (parameter.dtype,)
        if value.dtype not in dtypes and not another_dtype:
            return f"{key}.{name} is of type {value.dtype}, and not {dtypes[0]}"
        if np.isnan(value.numpy()).any() or (kinds[name] and not 0 <= value.item() < math.inf):
            return f"{key}.{name} holds numbers that no optimizer has"
    return None


def _infinite(value: Any, key: str) -> str | None:
    """Return the first number within a value that is not finite."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, inner in items:
        if told := _infinite(inner, f"{key}.{name}"):
            return told
    return f"{key} is {value}" if isinstance(value, float) and not math.isfinite(value) else None
