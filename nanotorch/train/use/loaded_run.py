"""A finished (or stopped) run, read back: its config, how it prepares rows, and its best model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import nn
from nanotorch.train.config.loading import read_resolved
from nanotorch.train.config.sections import Config
from nanotorch.train.data.joined import Joined, unlike
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import FloatArray
from nanotorch.train.fit.build import build_model, kind_of_outputs
from nanotorch.train.fit.fitting import fitting
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.model.members import MeanOfModels, apart, mean_of
from nanotorch.train.model.tempered import Tempered
from nanotorch.train.record import checkpoint, layout
from nanotorch.train.record.records import HeldOut, RunState, SeveralSummary, Summary, SweepSummary, checked, read_json
from nanotorch.train.record.resume import environment_of
from nanotorch.train.score import conformal
from nanotorch.train.terminal.command import UsageError, note

ROWS_AT_ONCE = 4096  # prepared rows that the model takes together


class RunError(UsageError):
    """A directory that holds no run that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """What `load_run` found.

    Attributes:
        directory: the run's directory.
        checkpoint: the directory of the checkpoint.
        config: its config, every value of it.
        preprocessing: from rows to what the model sees.
        model: the model of the checkpoint, in evaluation mode, on the CPU.
        state: the rest of the checkpoint's state: epoch, history ...
        members: the runs of which this is the mean; none of a single run.
    """

    directory: Path
    checkpoint: Path
    config: Config
    preprocessing: Preprocessing
    model: nn.Module
    state: Mapping[str, Any]
    members: tuple[LoadedRun, ...] = ()

    @property
    def when(self) -> str:
        """Which moment of the run the model is from, in words."""
        if self.members:
            return f"the mean of {len(self.members)} runs"
        epoch, steps = self.state["epoch"], self.state["step_in_epoch"]
        moment = f"epoch {epoch}" if steps == 0 else f"step {self.state['step']}, in epoch {epoch}"
        return f"{moment} ({self.checkpoint.name})"

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of its dataset, by which the texts of other files are read as those of its own were."""
        missing = self.preprocessing.missing_values
        stated = {"missing_values": {"only": missing}} if missing else {}
        return self.config.data.arguments | stated

    @property
    def is_best(self) -> bool:
        """Whether the model is that of the best epoch of a run that is complete, by which the run is judged."""
        best = checkpoint.find(self.directory / "checkpoints", "best")
        complete = (self.directory / "summary.json").is_file()
        return complete and best is not None and best.resolve() == self.checkpoint

    def limits(self, level: float) -> FloatArray:
        """Return by how much a new row is off at most, with this probability: for each target its error, or 1 - p of
        the class (Note [Conformal prediction]).

        A RunError where the run does not say, or where it knows of too few rows.
        """
        if self.members:
            raise RunError(
                f"{self.directory} holds several runs, and no rows were held out for their mean: give one of them"
            )
        if not self.is_best:
            raise RunError(f"{self.directory} says how far off its best model is, when it is complete; not of others")
        try:
            kept = read_json(self.directory / "held_out.json", HeldOut)["held_out"]
        except FileNotFoundError:
            raise RunError(f"{self.directory} has no held_out.json: it was trained by an earlier version") from None
        scores = np.array(kept).T
        targets = len(self.preprocessing.of_classes) or len(self.preprocessing.target_names)
        if scores.ndim != 2 or scores.shape[1] != targets:
            raise RunError(f"{self.directory / 'held_out.json'}: held_out should have {targets} columns of one length")
        found = conformal.limits(scores, level)
        if np.isinf(found).any():
            raise RunError(
                f"an interval of {level:g} needs {conformal.fewest(level)} rows for validation, and this run has"
                f" {len(scores)}: a smaller level, or a larger data.validation_size"
            )
        return found

    def outputs(self, features: FloatArray) -> FloatArray:
        """Return what the model gives for prepared rows, (n, out_features) float64:
        logits, or targets in the units of the loss.
        """
        dtype = getattr(torch, self.config.dtype)
        pieces = []
        with torch.no_grad():
            for start in range(0, len(features), ROWS_AT_ONCE):
                rows = torch.tensor(features[start : start + ROWS_AT_ONCE], dtype=dtype)
                pieces.append(self.model(rows).numpy().astype(np.float64))
        return np.concatenate(pieces) if pieces else np.zeros((0, self.preprocessing.out_features))

    def outputs_of_members(self, features: FloatArray) -> FloatArray:
        """Return what each member of an ensemble gives for prepared rows, (members, n, out_features) float64; a
        RunError where there is one model.
        """
        mean = mean_of(self.model)
        if mean is None:
            raise RunError(
                f"{self.directory} is one model, which agrees with itself: give the directory of folds or repeats, or a"
                " run of tabm"
            )
        with apart(mean):
            return self.outputs(features).swapaxes(0, 1) if len(features) else np.zeros((2, 0, 1))


def load_run(directory: str | Path, which: str = "best", device: str | None = None) -> LoadedRun:
    """Read a run's directory, with one of its checkpoints: `best`, `last`, or the path of one.

    `device` replaces that of the config. Of a sweep it is the best trial, of folds and repeats the mean of all runs. A
    RunError or CheckpointError says what is wrong.
    """
    root = Path(directory)
    names = names_of_runs(root)
    if names:
        return _mean(root, [load_run(root / name, which, device) for name in names])
    root /= best_trial(root) or ""
    if not (root / "checkpoints").is_dir() and (within := _runs_within(root)):
        one = f"give one of them, such as {within[-1]}"
        raise RunError(
            f"{root} is not the directory of one run, but of {len(within)} runs: {one}"
            if len(within) > 1
            else f"{root} is not the directory of a run; did you mean {within[0]}?"
        )
    if not (root / "resolved.yaml").is_file():
        reason = "it has no resolved.yaml" if root.is_dir() else "there is no such directory"
        if (root / "MANIFEST.json").is_file():
            reason = f"it is a checkpoint; give its run, and --checkpoint {root}"
        raise RunError(f"{root} is not the directory of a run: {reason}")
    overrides = () if device is None else (f'device="{device}"',)
    config = read_resolved(root / "resolved.yaml", overrides)
    place = Path(which)
    if which in ("best", "last"):
        found = checkpoint.find(root / "checkpoints", which)
        if found is None:
            raise RunError(f"{root} has no checkpoint {which!r} yet: the run stopped before its first one was written")
        place = found
    elif (root / "checkpoints" / which).exists():
        place = root / "checkpoints" / which
    saved = checkpoint.load(place)
    checked(saved.state, RunState, place / "state.json")
    preprocessing = Preprocessing.from_state(saved.state["preprocessing"])
    with borrowed_generator():
        model = build_model(config, preprocessing).to(getattr(torch, config.dtype))
    fitting(place / "model.safetensors", saved.model, model)
    model.load_state_dict(saved.model)
    run = LoadedRun(root, place.resolve(), config, preprocessing, model.eval(), saved.state)
    if config.train.calibration is None or not run.is_best:
        return run
    found = read_json(root / "summary.json", Summary).get("temperature")
    if found is None:
        raise RunError(f"{root / 'summary.json'} has lost its temperature, which train.calibration asks for")
    return replace(run, model=Tempered(model, found).eval())


def names_of_runs(root: Path) -> list[str]:
    """Return the names of the runs in the directory of folds or repeats; none where it is another one.

    A RunError where they are not complete.
    """
    if (root / "checkpoints").is_dir() or not (root / "resolved.yaml").is_file():
        return []
    config = read_resolved(root / "resolved.yaml")
    if config.sweep is not None or (config.train.folds is None and config.train.repeats == 1):
        return []
    try:
        return list(read_json(root / "summary.json", SeveralSummary)["runs"])
    except FileNotFoundError:
        raise RunError(
            f"{root} holds several runs that are not complete: `python -m nanotorch.train {root / 'resolved.yaml'}"
            f" --resume {root}` goes on with them"
        ) from None


def _mean(root: Path, members: Sequence[LoadedRun]) -> LoadedRun:
    """Return several runs as one, whose answer is the mean of theirs; a RunError where they cannot be averaged."""
    first, kinds = members[0], [kind_of_outputs(one.config, one.preprocessing) for one in members]
    for member, kind in zip(members, kinds, strict=True):
        differing = unlike(first.preprocessing, member.preprocessing)
        differing += [key for key in ("dtype",) if getattr(first.config, key) != getattr(member.config, key)]
        differing += ["loss"] * (kind != kinds[0])
        if differing:
            raise RunError(
                f"{member.directory} and {first.directory} have no mean: they differ in {', '.join(differing)}"
            )
    scalers = [one.preprocessing.target_scaler for one in members]
    shift, scale = np.zeros((len(members), 1)), np.ones((len(members), 1))
    if scalers[0] is not None:  # in the units of the first
        shift = np.stack([(one.mean - scalers[0].mean) / scalers[0].scale for one in scalers if one is not None])
        scale = np.stack([one.scale / scalers[0].scale for one in scalers if one is not None])
    dtype = getattr(torch, first.config.dtype)
    model = MeanOfModels(
        [one.model for one in members],
        [one.preprocessing.in_features for one in members],
        kinds[0],
        torch.tensor(scale, dtype=dtype),
        torch.tensor(shift, dtype=dtype),
    )
    config = read_resolved(root / "resolved.yaml", (f'device="{first.config.device}"',))
    joined = Joined.of([one.preprocessing for one in members])
    return LoadedRun(root, first.checkpoint, config, joined, model.eval(), first.state, tuple(members))


def load_told(directory: str | Path, which: str = "best", device: str | None = None) -> LoadedRun:
    """Read a run's directory as `load_run` does, and tell the user whose it is where that is not what was given."""
    run = load_run(directory, which, device)
    if best_trial(Path(directory)) is not None:
        note(f"{directory} is a sweep, and this is of its best trial, {run.directory.name}")
    if run.config.train.calibration is not None and not all(one.is_best for one in run.members or [run]):
        note(f"without its temperature, which {run.directory} has for its best model alone, when it is complete")
    return run


def best_trial(root: Path) -> str | None:
    """Return the name of the best trial in the directory of a sweep that is complete; else None."""
    if (root / "checkpoints").is_dir() or not (root / "trials.csv").is_file():
        return None
    try:
        return str(read_json(root / "summary.json", SweepSummary)["best"])
    except FileNotFoundError:
        return None


def with_its_files(run: LoadedRun) -> Config:
    """Return the config of the run, with paths from the directory it was started
    in where they lead nowhere from this one.
    """
    there, section = Path(environment_of(run.directory)[0].get("directory", ".")), run.config.data
    moved: dict[str, Any] = {
        key: str(there / value)
        for key in ("file", "target", "validation_file", "test_file")
        if isinstance(value := section.arguments.get(key), str)
        and not Path(value).exists()
        and (there / value).is_file()
    }
    if "file" in section.arguments:
        moved["missing_values"] = run.reading["missing_values"]
    return run.config.model_copy(update={"data": section.model_copy(update=moved)}) if moved else run.config


def refuse_to_replace(run: LoadedRun, output: str | Path, *inputs: str) -> None:
    """A UsageError if the output would take the place of an input, of the run's own data, or of a file of the run."""
    words = with_its_files(run).data.arguments.values()
    named = [
        word
        for value in words
        for word in (value if isinstance(value, list | tuple) else [value])
        if isinstance(word, str)
    ]
    layout.refuse_to_replace(output, [*inputs, *map(os.path.expanduser, named)], [run.directory])


def _runs_within(root: Path) -> list[Path]:
    """Return the directories of runs in a directory, the newest last."""
    if not root.is_dir():
        return []
    return sorted(
        (path.parent for path in root.glob("*/resolved.yaml")),
        key=lambda path: (path / "resolved.yaml").stat().st_mtime,
    )
