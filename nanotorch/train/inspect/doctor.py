"""`--doctor`: a look at the data and at some steps of training,
and for each finding the line of the config to change.

The bounds beside each check are rules of thumb: a finding says where to look, not that something must be wrong.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch import nn
from nanotorch.registry import DATASETS, METRICS
from nanotorch.train.config.loading import batch_size_of, epochs_of
from nanotorch.train.config.sections import Config
from nanotorch.train.data.data_findings import CHECKS, MOST_ROWS
from nanotorch.train.data.table import Table, quoted, quoted_columns, spread_rows
from nanotorch.train.fit.build import Setup, key_of_rate, rate_of, steps_per_epoch
from nanotorch.train.fit.decided import is_uneven, settled_data
from nanotorch.train.fit.loop import DivergedError
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.prepare import Data
from nanotorch.train.fit.random_numbers import borrowed_generator
from nanotorch.train.fit.training import Training
from nanotorch.train.inspect.trial_steps import losses_of, trial
from nanotorch.train.score.meter import main_metric
from nanotorch.train.score.sklearn_scores import counts_rows
from nanotorch.train.terminal.blas_threads import blas_threads
from nanotorch.utils.data import DataLoader

STEPS = 40  # of the trial
ROWS = 5000  # in which units are looked at
WIDTH = 80
RATES = ("optimizer.lr", "scheduler.max_lr")
FAR = 40.0  # standard deviations
NAMED = 4  # layers ... named in one sentence

ZERO_BELOW = (nn.ReLU, nn.ReLU6)
BOUNDED: dict[type[nn.Module], tuple[float, float]] = {  # the ends between which outputs lie
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.Hardtanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at: what it is, why it matters, and what to write in the config (or do, where no line helps).

    Attributes:
        check: the name of the check that found it.
        lines: overrides by key, which go together with those of all other findings.
        otherwise: what else one may do.
        columns: those that are better left out.
    """

    check: str
    what: str
    why: str
    lines: Mapping[str, str] = field(default_factory=dict)
    otherwise: str = ""
    columns: Sequence[str] = ()

    @property
    def change(self) -> str:
        """What to change, in one line."""
        return "  ".join(_overrides(self.lines)) + self.otherwise


@dataclass(slots=True)
class LayerTrial:
    """What one weight did during the trial: the mean over its first ten steps
    or the median of its second half, if that is larger.

    Attributes:
        name: the layer and its shape.
        weights: the number of its elements.
        gradient_norm: of its gradient, after clipping.
        update_ratio: the norm of a step's change over the norm of the weight.
    """

    name: str
    weights: int
    gradient_norm: float
    update_ratio: float


@dataclass(slots=True)
class Diagnosis:
    """All that the doctor saw.

    Attributes:
        name: the run's name.
        findings: what to look at.
        passed: the checks that found nothing.
        layers: what each weight did.
        losses: the loss of each step of the trial.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)
    layers: list[LayerTrial] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def add(self, check: str, findings: Iterator[Finding]) -> None:
        """Take in what a check found, or that it found nothing."""
        found = list(findings)
        self.findings += found
        if not found:
            self.passed.append(check)

    @property
    def lines(self) -> dict[str, str]:
        """The lines of all findings, to be taken together: of several rates it is the smallest."""
        found: dict[str, str] = {}
        for finding in self.findings:
            for key, value in finding.lines.items():
                rates = key in found and key in RATES
                found[key] = min(found[key], value, key=float) if rates else found.get(key, value)
        return found

    def agree(self, config: Config) -> None:
        """Let all findings name the same rate, and the same columns to leave out."""
        names = [name for finding in self.findings for name in finding.columns]
        drop = (
            {}
            if not names or "drop" not in DATASETS.arguments(config.data.name)
            else {"data.drop": _list(config, names)}
        )
        self.findings = [
            replace(finding, lines={**finding.lines, **drop}) if finding.columns else finding
            for finding in self.findings
        ]
        every = self.lines
        self.findings = [
            replace(finding, lines={key: every[key] for key in finding.lines}) for finding in self.findings
        ]

    def text(self, begun: str = "python -m nanotorch.train CONFIG") -> str:
        """Return the report, at most 80 columns wide; `begun` is the command that all lines are to be put behind."""
        lines = []
        if self.losses:
            lines.append(
                f"{self.name}: loss {self.losses[0]:.4g} -> {self.losses[-1]:.4g} in a trial of {len(self.losses)}"
                " steps\n"
            )
        if self.layers:
            width = max(5, *(len(layer.name) for layer in self.layers))
            lines.append(f"{'layer':<{width}}  {'weights':>9}  {'gradient norm':>13}  {'update/weight':>13}")
            lines += [
                f"{layer.name:<{width}}  {layer.weights:>9,}  {layer.gradient_norm:>13.2g}  {layer.update_ratio:>13.1e}"
                for layer in self.layers
            ]
            lines.append("")
        if self.findings:
            lines.append(f"{len(self.findings)} finding{'s' if len(self.findings) > 1 else ''}\n")
        for number, finding in enumerate(self.findings, start=1):
            lead = f"{number}. "
            indent = " " * len(lead)
            lines += _wrapped(f"{finding.what}.", lead, indent)
            lines += _wrapped(f"{finding.why}.", indent, indent)
            lines += _wrapped(f"-> {finding.change}", indent, f"{indent}   ")
            lines.append("")
        looked = f"nothing to say about: {', '.join(self.passed)}" if self.passed else ""
        if not self.findings:
            lines.append("no finding\n")
        if self.lines:
            told = "all of these lines together:" if len(self.lines) > 1 else "with this line:"
            lines += [told, "", " \\\n    ".join([f"  {begun}", *map(shlex.quote, _overrides(self.lines))]), ""]
        lines += _wrapped(looked)
        return "\n".join(lines)


def _wrapped(text: str, first: str = "", further: str = "") -> list[str]:
    """Return lines of a text, in which a path or a value stays in one piece, to be copied."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=further, break_on_hyphens=False, break_long_words=False
    )


def examine(config: Config) -> Diagnosis:
    """Look at the data of a config, and train some steps on the side; nothing is written."""
    diagnosis = Diagnosis(config.name)
    with borrowed_generator():
        config, whole = settled_data(config)
        data = replace(whole, parts={name: _some(table) for name, table in whole.parts.items()})
        inputs = {name: data.preprocessing.features(table) for name, table in data.parts.items()}
        diagnosis.add("class imbalance", _imbalance(config, data))
        for check in CHECKS:
            diagnosis.add(check, _odd(config, whole, check))
        diagnosis.add("scales and outliers", _scales(config, data, inputs))
        diagnosis.add("length of the run", _length(config, len(whole.parts["train"])))
        setup = trial(config, whole)
        training = setup.training
        with blas_threads(training.model, batch_size_of(config)):
            diagnosis.add("finite losses", _try(config, setup, diagnosis))
            if not diagnosis.findings or diagnosis.findings[-1].check != "finite losses":
                diagnosis.add("progress of the loss", _progress(config, diagnosis.losses))
                diagnosis.add("gradient norms", _gradients(config, diagnosis.layers))
                diagnosis.add("update-to-weight ratios", _updates(config, diagnosis.layers))
                diagnosis.add("dead and saturated units", _activations(config, training, setup.parts["train"]))
    diagnosis.agree(config)
    return diagnosis


# ------------------------------------------------------------ the data


def _some(table: Table) -> Table:
    """Return the table, or of a large one rows from all over it; in memory."""
    if len(table) <= MOST_ROWS and isinstance(table.features, np.ndarray):
        return table
    return table.rows(spread_rows(len(table), MOST_ROWS))


def _imbalance(config: Config, data: Data) -> Iterator[Finding]:
    train = data.parts["train"]
    if train.task == "regression":
        return
    if train.classes:
        of_each = [np.bincount(numbers, minlength=len(names)) for names, numbers in train.class_numbers]
        uneven = [name for name, of in zip(train.target_names, of_each, strict=True) if is_uneven(of)]
        monitor = main_metric(train.task) if config.train.monitor == "auto" else config.train.monitor
        if uneven and (monitor.startswith("accuracy") or (monitor in METRICS and counts_rows(monitor))):
            yield Finding(
                "class imbalance",
                f"of {len(of_each)} targets the classes of {quoted(uneven)} have very different numbers of rows",
                "an accuracy hardly sees the rare class of such a target, and the loss does",
                {"train.monitor": "loss"},
            )
        return
    counts = np.bincount(train.targets, minlength=len(train.target_names))
    most, least = int(counts.argmax()), int(counts.argmin())
    if not is_uneven(counts):
        return
    weighed = config.loss.class_weight or config.loss.arguments.get("weight") or config.loss.arguments.get("pos_weight")
    monitor = main_metric(train.task) if config.train.monitor == "auto" else config.train.monitor
    lines = {} if weighed else {"loss.class_weight": "balanced"}
    lines |= {"train.monitor": "balanced_accuracy"} if monitor in METRICS and counts_rows(monitor) else {}
    if lines:
        share = counts[most] / len(train)
        yield Finding(
            "class imbalance",
            f"class {train.target_names[most]!r} has {counts[most]:,} rows for training, class"
            f" {train.target_names[least]!r} {counts[least]:,}",
            f"a model that always says {train.target_names[most]!r} has an accuracy of {share:.1%}",
            lines,
        )


def _odd(config: Config, data: Data, check: str) -> Iterator[Finding]:
    """What a check of the rows alone finds, and the line that leaves the columns out."""
    for odd in data.oddities:
        if odd.check == check:
            if "drop" in DATASETS.arguments(config.data.name) or not odd.columns:
                otherwise = "" if odd.columns else f"{odd.instead} {_file(config)}"
                yield Finding(check, odd.what, odd.why, {}, otherwise, odd.columns)
            else:
                them = "it" if len(odd.columns) == 1 else "them"
                otherwise = f"leave {them} out of the data: {config.data.name} has no key for it"
                yield Finding(check, odd.what, odd.why, {}, otherwise)


def _file(config: Config) -> str:
    return getattr(config.data, "file", None) or "the data; no line of the config does it"


def _scales(config: Config, data: Data, inputs: dict[str, NDArray[np.float64]]) -> Iterator[Finding]:
    names, train = data.preprocessing.input_names, inputs["train"]
    largest = np.abs(train).max(0)
    if not config.data.standardize:
        deviations = train.std(0)[train.std(0) > 0]
        if len(deviations) and (deviations.max() > 100 * deviations.min() or deviations.max() > 100):
            yield Finding(
                "scales and outliers",
                f"the columns as they are spread from {deviations.min():.2g} to {deviations.max():.2g}",
                "one learning rate cannot suit weights of such different sizes",
                {"data.standardize": "true"},
            )
    elif (far := np.flatnonzero(largest > FAR)).size:
        worst = far[np.argsort(-largest[far])].tolist()
        yield Finding(
            "scales and outliers",
            f"{quoted_columns([names[index] for index in worst])} hold{'s' if len(worst) == 1 else ''} values up to"
            f" {largest[worst[0]]:.0f} standard deviations from the mean",
            "a single row then makes steps that undo those of many others, up to overflow and NaN",
            _clipped(config),
            "" if _clipped(config) else f"look at the largest values of {names[worst[0]]!r}",
        )
    table = data.parts["train"]
    if table.task == "regression" and data.preprocessing.target_scaler is None:
        spread = table.targets.std(0)
        if spread.max() > 100 or np.abs(table.targets.mean(0)).max() > 100 * max(1.0, float(spread.max())):
            yield Finding(
                "scales and outliers",
                f"the target spreads by {spread.max():.3g} around {table.targets.mean(0)[spread.argmax()]:.3g}, and is"
                " not standardised",
                "a model begins near 0 and would need many steps to come there",
                {"data.standardize_target": "true"},
            )
    overflowing = float(largest.max()) > 1e18 and config.dtype == "float32"
    if overflowing:
        yield Finding(
            "scales and outliers",
            f"column {names[int(largest.argmax())]!r} reaches {largest.max():.1e}",
            "its square is infinite in float32, and the loss with it",
            {"dtype": "float64"} if config.data.standardize else {"data.standardize": "true"},
        )


def _length(config: Config, rows: int) -> Iterator[Finding]:
    steps = steps_per_epoch(rows, config)
    total = steps * epochs_of(config)
    if total < 100:
        if batch_size_of(config) * config.train.accumulate * 4 > rows and rows > 64:
            change = {"train.batch_size": str(max(8, 2 ** int(math.log2(rows / 20))))}
        else:
            change = {"train.epochs": str(math.ceil(300 / steps))}
        yield Finding(
            "length of the run",
            f"the whole run has {total} steps: {steps} an epoch, {epochs_of(config)} epochs",
            "few models are done after so few steps",
            change,
        )


# ------------------------------------------------------------ the trial


def _try(config: Config, setup: Setup, diagnosis: Diagnosis) -> Iterator[Finding]:
    """Train some steps and keep what the weights did."""
    training = setup.training
    weights = {name: p for name, p in training.model.named_parameters() if p.ndim >= 2}
    before = {name: p.detach().clone() for name, p in weights.items()}
    norms: dict[str, list[float]] = {name: [] for name in weights}
    ratios: dict[str, list[float]] = {name: [] for name in weights}
    rate = rate_of(config)
    try:
        for loss in losses_of(setup, STEPS):
            diagnosis.losses.append(loss)
            for name, p in weights.items():
                norms[name].append(0.0 if p.grad is None else p.grad.norm().item())
                moved = (p.detach() - before[name]).norm().item()
                ratios[name].append(moved / max(before[name].norm().item(), 1e-30))
                before[name] = p.detach().clone()
    except DivergedError as error:
        yield Finding(
            "finite losses",
            error.fact,
            "the steps are too large, or the data hold values that are",
            _line_of_rate(config, rate / 10) | _clipped(config),
        )
        return
    if training.skipped:
        yield Finding(
            "finite losses",
            f"{training.skipped} of {training.step} steps were left out because a gradient was not finite",
            "on_nonfinite: skip hides it, and the rows of these steps are never learnt from",
            _line_of_rate(config, rate / 10) | {"train.on_nonfinite": "raise"},
        )
    modules = dict(training.model.named_modules())
    for name, p in weights.items():
        path = name.rpartition(".")[0]
        label = f"{path} {type(modules[path]).__name__} {' -> '.join(map(str, reversed(p.shape)))}"
        diagnosis.layers.append(LayerTrial(label, p.numel(), _typical(norms[name]), _typical(ratios[name])))


def _typical(values: list[float]) -> float:
    return float(max(np.mean(values[:10]), np.median(values[len(values) // 2 :])))


def _progress(config: Config, losses: list[float]) -> Iterator[Finding]:
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 20:
        return
    start, end, top = finite[0], float(np.mean(finite[-8:])), max(finite)
    if (end > 1.5 * start and end - start > 0.1) or top > 4 * start:
        yield Finding(
            "progress of the loss",
            f"the loss rose in the trial: from {start:.3g} at the start to {top:.3g}, and {end:.3g} at the end",
            "the steps are too large",
            _line_of_rate(config, rate_of(config) / 10),
            "  (or let --find-lr name one)",
        )


def _gradients(config: Config, layers: list[LayerTrial]) -> Iterator[Finding]:
    norms = [layer.gradient_norm for layer in layers]
    if len(norms) > 1 and norms[0] < 1e-3 * max(norms[1:]):
        normed = config.model.arguments.get("layer_norm") is False and not config.model.arguments["batch_norm"]
        yield Finding(
            "gradient norms",
            f"the gradient of the first layer ({norms[0]:.1e}) is far smaller than that of a later one"
            f" ({max(norms[1:]):.1e})",
            "gradients vanish on their way: the first layers hardly learn",
            {"model.layer_norm": "true"} if normed else {"model": "{name: residual_mlp}"},
            ", or model.activation=ReLU  model.init=kaiming_normal",
        )
    if max(norms, default=0.0) > 100 and _clipped(config):
        yield Finding(
            "gradient norms",
            f"a gradient has a norm of {max(norms):.3g}",
            "a step that large may throw the weights away",
            _clipped(config),
        )


def _updates(config: Config, layers: list[LayerTrial]) -> Iterator[Finding]:
    ratios = [layer.update_ratio for layer in layers]
    rate = rate_of(config)
    if max(ratios, default=0.0) > 0.2:
        worst = max(layers, key=lambda layer: layer.update_ratio)
        yield Finding(
            "update-to-weight ratios",
            f"a step changes layer {worst.name} by {worst.update_ratio:.0%} of itself",
            "one to five percent is usual at the start: what was learnt is overwritten at once",
            _line_of_rate(config, rate * 0.04 / worst.update_ratio),
        )
    warming = config.scheduler is not None and (config.scheduler.warmup > 0 or config.scheduler.name == "OneCycleLR")
    if ratios and max(ratios) < 2e-5 and rate > 0 and not warming:
        yield Finding(
            "update-to-weight ratios",
            f"no layer changes by more than {max(ratios):.1e} of itself in a step",
            "about 1e-3 is usual: training will take very long",
            _line_of_rate(config, rate * 1e-3 / max(max(ratios), 1e-9)),
            "  (or let --find-lr name one)",
        )


def _activations(config: Config, training: Training, train: Part) -> Iterator[Finding]:
    """Units of the trained model that give 0, or nearly the ends of their range, for all rows."""
    outputs: dict[str, NDArray[np.float64]] = {}
    handles = []
    kinds = {}
    for name, module in training.model.named_modules():
        if isinstance(module, (*ZERO_BELOW, *BOUNDED)):
            kinds[name] = type(module)

            def keep(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
                outputs[name] = output.detach().cpu().numpy().reshape(len(output), -1)

            handles.append(module.register_forward_hook(keep))
    training.model.eval()
    with torch.no_grad():
        training.model(next(iter(DataLoader(train.dataset, ROWS)))[0])
    for handle in handles:
        handle.remove()
    dead, full = [], []
    for name, values in outputs.items():
        if issubclass(kinds[name], ZERO_BELOW):
            count = int((values == 0).all(0).sum())
            if count > max(0.2 * values.shape[1], 2):
                dead.append(f"{count} of {values.shape[1]} units of layer {name} ({kinds[name].__name__})")
        else:
            low, high = next(ends for kind, ends in BOUNDED.items() if issubclass(kinds[name], kind))
            near = (values < low + 0.01 * (high - low)) | (values > high - 0.01 * (high - low))
            if near.mean() > 0.4:
                full.append(f"{near.mean():.0%} of the outputs of layer {name} ({kinds[name].__name__})")
    rate = rate_of(config)
    if dead:
        yield Finding(
            "dead and saturated units",
            f"{'; '.join(dead[:NAMED])} give 0 for every row",
            "no gradient reaches a dead unit, so it stays dead",
            _line_of_rate(config, rate / 10),
            ", or model.activation=LeakyReLU, or model.init=kaiming_normal",
        )
    if full:
        yield Finding(
            "dead and saturated units",
            f"{'; '.join(full[:NAMED])} are within 1% of the ends of their range",
            "the slope there is nearly 0, and with it the gradient",
            _line_of_rate(config, rate / 10) if config.data.standardize else {"data.standardize": "true"},
            ", or model.init=xavier_uniform, or model.layer_norm=true",
        )


def _short(rate: float) -> str:
    """Return a rate with one digit, as one would write it.

    >>> _short(0.0123), _short(3e-7), _short(14.0)
    ('0.01', '3e-07', '10')
    """
    return f"{float(f'{rate:.0e}'):g}"


def _line_of_rate(config: Config, rate: float) -> dict[str, str]:
    return {key_of_rate(config): _short(rate)}


def _clipped(config: Config) -> dict[str, str]:
    """Return the line that clips gradients, unless they are clipped."""
    clips = config.train.clip_norm is not None or config.train.clip_value is not None
    return {} if clips else {"train.clip_norm": "1.0"}


# ------------------------------------------------------------ words


def _overrides(lines: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in lines.items()]


def _list(config: Config, names: Sequence[str]) -> str:
    """Return columns to leave out, with those that the config leaves out already, as YAML has a list of texts.

    >>> _yaml(["id", "a, b", "no", "17"])
    '[id, "a, b", "no", "17"]'
    """
    return _yaml(list(dict.fromkeys([*map(str, config.data.arguments["drop"] or ()), *names])))


def _yaml(names: Sequence[str]) -> str:
    plain = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[^\W\d]\w*", re.IGNORECASE)
    return f"[{', '.join(name if plain.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in names)}]"
