"""The `sweep` section: which trials it makes, and every message for what makes none."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanotorch.train.cli.train import main
from nanotorch.train.config.loading import load, loads, located, resolved, with_seed
from nanotorch.train.config.schema import schema
from nanotorch.train.config.sections import SweepSection
from nanotorch.train.config.strict_yaml import ConfigError
from nanotorch.train.sweep.trials import Rung, Trial, rungs, trials

GOOD = """\
name: digits
data: {name: digits}
model: {hidden: [64, 32]}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 1e-3}
train: {epochs: 9, batch_size: 32}
"""


def swept(section: str, *overrides: str) -> list[Trial]:
    """The trials of a config with this section."""
    return trials(loads(f"{GOOD}sweep: {section}", "run.yaml", overrides))


def values(section: str, *overrides: str) -> list[dict[str, Any]]:
    return [trial.values for trial in swept(section, *overrides)]


def headlines(section: str, *overrides: str) -> list[str]:
    """The first line of every problem; the section is line 7."""
    with pytest.raises(ConfigError) as caught:
        loads(f"{GOOD}sweep: {section}", "run.yaml", overrides)
    return [f"{problem.mark}: {problem.key}: {problem.message}" for problem in caught.value.problems]


# ------------------------------------------------------------ grids


def test_a_grid_is_every_combination_with_the_last_key_fastest() -> None:
    found = swept("{optimizer.lr: [1e-3, 3e-3, 1e-2], model.dropout: [0.0, 0.2], seed: 8}")
    expected = itertools.product([1e-3, 3e-3, 1e-2], [0.0, 0.2], range(8))
    assert [tuple(trial.values.values()) for trial in found] == list(expected)
    assert [trial.number for trial in found] == list(range(1, 49))
    assert [trial.name for trial in found] == [f"trial-{number}" for number in range(1, 49)]


@pytest.mark.parametrize(
    "section",
    [
        "{optimizer.lr: [1e-3, 3], model.dropout: [0.0, 0.2]}",
        "{optimizer: {lr: [1e-3, 3], eps: [1e-8, 1e-7]}, model: {hidden.1: [8, 16]}}",
        "{optimizer.name: [SGD, Adam, AdamW], seed: [5, 3]}",
        "{optimizer: [{name: SGD, momentum: 0.9}, {name: Adam, amsgrad: true}], optimizer.lr: [0.1]}",
        "{scheduler: [null, {name: StepLR, step_size: 3}], early_stopping: [null, {patience: 2}]}",
        "{model: [{hidden: [8]}, {name: residual_mlp, width: 16}], train.clip_norm: [null, 1.0], dtype: [float64]}",
        "{trials: 5, optimizer.lr: {loguniform: [1e-4, 1e-1]}, model.hidden: [[32], [64, 64], []]}",
        "{trials: 5, train.batch_size: {randint: [8, 65]}, scheduler: {choice: [null, {name: StepLR, step_size: 3}]}}",
    ],
)
def test_a_trial_is_the_config_with_its_values_as_overrides(section: str) -> None:
    for trial in swept(section):
        by_depth = sorted(trial.values, key=lambda key: key.count("."))
        assert trial.config == loads(GOOD, overrides=[f"{key}={json.dumps(trial.values[key])}" for key in by_depth])
        assert loads(resolved(trial.config)) == trial.config


@pytest.mark.parametrize(
    "section",
    [
        "{optimizer.lr: [1e-3, 3e-3], seed: 2}",
        "{optimizer.name: [SGD, Adam], model.dropout: [0.1]}",
        "{optimizer: {name: [SGD, Adam]}, halving: 2}",
        "{trials: 4, model.name: [mlp], optimizer.lr: {loguniform: [1e-4, 1e-1]}, halving: 3, min_epochs: 2}",
    ],
)
def test_the_resolved_config_gives_the_same_trials(section: str) -> None:
    config = loads(f"{GOOD}sweep: {section}")
    again = loads(resolved(config))
    assert (again, trials(again)) == (config, trials(config))
    assert resolved(again) == resolved(config)


def test_without_a_sweep_there_are_no_trials() -> None:
    assert trials(loads(GOOD)) == []
    assert swept("{seed: 2}", "sweep=null") == []


def test_seeds_follow_the_one_of_the_config() -> None:
    assert values("{seed: 3}", "seed=7") == [{"seed": 7}, {"seed": 8}, {"seed": 9}]
    assert values("{seed: [4, 2]}", "seed=7") == [{"seed": 4}, {"seed": 2}]
    assert values("{seed: 2}", f"seed={2**32 - 1}") == [{"seed": 2**32 - 1}, {"seed": 0}]


def test_repeated_trials_share_no_seed() -> None:
    assert values("{seed: 3}", "seed=7", "train.repeats=4") == [{"seed": 7}, {"seed": 11}, {"seed": 15}]
    assert values("{seed: [9, 5, 2]}", "train.repeats=3") == [{"seed": 9}, {"seed": 5}, {"seed": 2}]
    said = r"seed\.3: with train\.repeats 3 a trial takes its seed and those after it, and so does that of seed 9:"
    with pytest.raises(ConfigError, match=said):
        values("{seed: [9, 5, 2, 11]}", "train.repeats=3")


# ------------------------------------------------------------ draws

DRAWN = "optimizer.lr: {loguniform: [1e-4, 1e-1]}, model.dropout: {uniform: [0, 0.5]}, model.hidden: [[8], [16], [32]]"


def test_more_trials_keep_the_first_ones_and_a_further_key_the_values_of_the_others() -> None:
    few, many = values(f"{{trials: 5, {DRAWN}}}"), values(f"{{trials: 30, {DRAWN}}}")
    assert many[:5] == few
    assert len({json.dumps(one) for one in many}) == 30
    wider = values(f"{{trials: 5, train.batch_size: {{randint: [8, 65]}}, {DRAWN}}}")
    assert [{key: one[key] for key in few[0]} for one in wider] == few
    assert values(f"{{trials: 5, {DRAWN}}}", "seed=1") != few


def test_draws_are_spread_over_their_bounds() -> None:
    section = """{trials: 400, optimizer.lr: {loguniform: [1e-4, 1]}, model.dropout: {uniform: [0.25, 0.75]},
        train.batch_size: {randint: [8, 12]}, model.hidden.0: {lograndint: [1, 64]},
        train.ema: {choice: [null, 0.5]}}"""
    found = values(section)
    rates, rows = [one["optimizer.lr"] for one in found], [one["train.batch_size"] for one in found]
    widths = [one["model.hidden.0"] for one in found]
    assert all(1e-4 <= rate < 1 and float(f"{rate:.6g}") == rate for rate in rates)
    assert all(80 < sum(10.0**-n <= rate < 10.0 ** (1 - n) for rate in rates) < 120 for n in range(1, 5))
    assert all(0.25 <= one["model.dropout"] < 0.75 for one in found)
    assert 170 < sum(one["model.dropout"] < 0.5 for one in found) < 230
    assert set(rows) == {8, 9, 10, 11} and all(75 < rows.count(row) < 125 for row in set(rows))
    assert min(widths) == 1 and max(widths) <= 63 and 170 < sum(width < 8 for width in widths) < 230
    assert 170 < sum(one["train.ema"] is None for one in found) < 230


def test_what_is_finite_is_drawn_to_the_last() -> None:
    found = values("{trials: 6, optimizer.lr: [1, 2, 3], train.batch_size: {randint: [8, 10]}}")
    assert sorted(tuple(one.values()) for one in found) == list(itertools.product([1, 2, 3], [8, 9]))


def test_a_seed_that_is_drawn_later_draws_other_trials() -> None:
    config = loads(f"{GOOD}sweep: {{trials: 3, {DRAWN}}}", overrides=["seed=null"])
    assert trials(with_seed(config, 5)) == swept(f"{{trials: 3, {DRAWN}}}", "seed=5")


# ------------------------------------------------------------ values as the config takes them


def refusals(text: str, *overrides: str) -> list[str] | None:
    try:
        loads(text, overrides=overrides)
    except ConfigError as error:
        return sorted([problem.key for problem in error.problems])  # they are told by their places in the text
    return None


SWEPT = [key for key in schema()["$defs"]["sweep"]["properties"] if key not in SweepSection.model_fields]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats(0, 1) | st.sampled_from(["mlp", "SGD", "ReLU", "", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "lr"]), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(SWEPT), JSON)
@example("optimizer.betas", [None])
def test_a_value_is_taken_where_the_config_takes_it(key: str, value: Any) -> None:
    if key == "seed" and value is None:
        return  # the config may draw its seed, a trial may not
    written = json.dumps(value)
    assert refusals(f"{GOOD}sweep: {{{key}: [{written}]}}") == refusals(GOOD, f"{key}={written}")


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*SWEPT, "trials", "halving", "min_epochs", "name", "lr", "a.b.c"]), JSON)
def test_any_section_is_accepted_or_explained(key: str, value: Any) -> None:
    text = f"{GOOD}sweep: {{{key}: {json.dumps(value)}, seed: 3}}" if key != "seed" else f"{GOOD}sweep: {{seed: 3}}"
    try:
        config = loads(text)
    except ConfigError as error:
        assert all(problem.message and problem.mark.line for problem in error.problems)
    else:
        assert trials(loads(resolved(config))) == trials(config) != []


# ------------------------------------------------------------ overrides


def test_overrides_reach_the_section() -> None:
    section = "{optimizer.lr: [1e-3, 3e-3], model: {dropout: [0.1]}}"
    assert values(section, "sweep.optimizer.lr=[1]") == [{"optimizer.lr": 1, "model.dropout": 0.1}]
    assert values(section, "sweep.model.dropout=[0.2]", "sweep.trials=1")[0]["model.dropout"] == 0.2
    assert values(section, "sweep.seed=2", "sweep.optimizer.lr=[1]")[1]["seed"] == 1
    assert values("{seed: 1}", "sweep={train.batch_size: [8, 16]}") == [{"train.batch_size": n} for n in (8, 16)]
    drawn = values(section, "sweep.trials=3", "sweep.optimizer.lr.uniform=[0, 1]")
    assert len(drawn) == 3 and 0 <= drawn[0]["optimizer.lr"] < 1
    (problem,) = headlines(section, "sweep.optimizer.lr=[x]")
    assert problem == ("override 'sweep.optimizer.lr=[x]': optimizer.lr: expected float >= 0, got the text 'x'")


# ------------------------------------------------------------ halving


@pytest.mark.parametrize(
    ("options", "epochs", "count", "expected"),
    [
        ("halving: 3", 27, 27, [(1, 9), (3, 3), (9, 1)]),
        ("halving: 3", 100, 64, [(4, 22), (12, 8), (36, 3)]),
        ("halving: 2, min_epochs: 5", 40, 6, [(5, 3), (10, 2), (20, 1)]),
        ("halving: 2, min_epochs: 5", 9, 6, [(5, 3)]),
        ("halving: 3", 1, 9, []),
        ("seed: 4", 27, 27, []),
    ],
)
def test_rungs(options: str, epochs: int, count: int, expected: list[tuple[int, int]]) -> None:
    config = loads(f"{GOOD}sweep: {{optimizer.lr: [1, 2, 3], {options}}}", overrides=[f"train.epochs={epochs}"])
    assert rungs(config, count) == [Rung(*one) for one in expected]


def test_the_sections_that_the_page_shows_are_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "trainer.md").read_text()
    shown = re.findall(r"^```text\n(sweep:\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert [len(trials(loads(GOOD + text))) for text in shown] == [48, 64]


# ------------------------------------------------------------ the command line


def test_the_command_line_knows_the_section(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(GOOD.replace("{name: digits}", "{name: iris}") + "sweep: {optimizer.lr: [1e-3, 1e-2], seed: 12}\n")
    assert main([str(file), "--validate"]) == 0
    assert main([str(file), "--validate", "sweep.optimizer.lr=[1, x]"]) == 2
    out, err = capsys.readouterr()
    assert out == f"{file}: valid\n" and "optimizer.lr: expected float >= 0, got the text 'x'" in err
    assert main([str(file), "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert "sweep:\n  trials: null\n  halving: null\n  min_epochs: null\n  optimizer.lr: [0.001, 0.01]\n" in printed
    assert trials(loads(printed)) == trials(load(file))
    assert main([str(file), "--dry-run", "sweep.halving=3", "train.folds=2"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("digits has a sweep: this looks at the config without it\n\ndigits: seed 0")
    assert "\n24 trials of 2 runs\n             lr  seed\ntrial-1   0.001     0\n" in printed
    assert "\ntrial-20   0.01     7\n(4 more)\nafter epoch 1 the best 8 go on\nafter epoch 3" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"]


def test_what_the_data_say_is_located_at_the_values_that_are_tried() -> None:
    text = f"{GOOD}sweep: {{train.batch_size: [8, 10000], seed: 2}}"
    assert str(located(("train", "batch_size"), "train.batch_size: too many", text, "run.yaml")).startswith(
        "run.yaml:7:27: train.batch_size: too many"
    )
    (nested,) = located(("train", "batch_size"), "too many", GOOD, "run.yaml", ["sweep.train.batch_size=[1]"]).problems
    assert nested.mark.is_override


# ------------------------------------------------------------ mistakes


def test_all_mistakes_are_reported_together_each_at_its_value() -> None:
    section = """
  trial: 4
  halving: 1
  optimizer:
    lr: [1e-3, fast, -1]
    betas: [[0.5]]
  model.dropout: [0.0, 1.2]
  model.hidden: [32, [64]]
  optimiser.lr: [1]
  train.batch_sizes: [8]
  train.epochs: []
  name: [a, b]
  data.test_size: [0.1]
  train.clip_norm: 1.0
  train.accumulate: [1, 2, 1.0]
"""
    assert headlines(section) == [
        "run.yaml:8:3: sweep.trial: unknown key (did you mean 'trials'?)",
        "run.yaml:9:12: sweep.halving: expected int >= 2 or null, got 1",
        "run.yaml:11:16: optimizer.lr: expected float >= 0, got the text 'fast'",
        "run.yaml:11:22: optimizer.lr: expected float >= 0, got -1",
        "run.yaml:12:13: optimizer.betas: expected list of 2 float >= 0 and < 1, got a list of 1",
        "run.yaml:13:24: model.dropout: expected float >= 0 and < 1, got 1.2",
        "run.yaml:14:18: model.hidden: expected list of int >= 1, got 32; the values to try are a list of such lists: "
        "[[32], [64, 64]]",
        "run.yaml:15:3: optimiser: unknown key (did you mean 'optimizer'?)",
        "run.yaml:16:3: train.batch_sizes: unknown key (did you mean 'batch_size'?)",
        "run.yaml:17:17: sweep.train.epochs: this list is empty: there is nothing to try",
        "run.yaml:18:3: sweep.name: this cannot be swept: a sweep has one name, and every trial a directory of its own "
        "in it",
        "run.yaml:19:3: sweep.data.test_size: this cannot be swept: the trials would be of other data, and their "
        "scores could not be compared",
        "run.yaml:20:20: sweep.train.clip_norm: expected a list of the values to try, or a distribution such as "
        "{loguniform: [1e-4, 1e-1]}, got 1.0; a value for all trials is given as train.clip_norm outside of the sweep",
        "run.yaml:21:28: sweep.train.accumulate.2: this value is given twice, first as number 1",
    ]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("3", ["7:8: sweep: expected a mapping, got 3"]),
        ("{}", ["7:1: sweep: nothing is swept: add a key with the values to try, such as optimizer.lr: [1e-3, 1e-2]"]),
        ("{lr: [1]}", ["7:9: lr: unknown key (did you mean 'optimizer.lr'?)"]),
        ("{seed: 0}", ["7:15: sweep.seed: expected how many seeds, from 1 to 10,000, or a list of them, got 0"]),
        ("{seed: {choice: []}}", ["7:24: sweep.seed: this list is empty: there is nothing to try"]),
        (
            "{optimizer: [{name: SGD}, {name: Adam}, {name: SGD, lr: 1e-3}]}",
            [
                "7:48: sweep.optimizer: the trial with optimizer: {name: SGD, lr: 0.001} has the config of that with "
                "optimizer: {name: SGD}"
            ],
        ),
        (
            "{model.hidden: [[8], [16]], model.hidden.0: [4]}",
            [
                "7:29: sweep.model.hidden: the trial with model.hidden: [16], model.hidden.0: 4 has the config of that "
                "with model.hidden: [8], model.hidden.0: 4"
            ],
        ),
        ("{seed: [1, null]}", ["7:19: sweep.seed.1: a trial that can be trained again has a seed, not null"]),
        ("{seed: [-1]}", ["7:16: seed: expected int >= 0 and <= 4294967295 or null, got -1"]),
        (
            "{model: {}}",
            [
                "7:16: sweep.model: expected a list of the values to try, or one distribution; the "
                "distributions are uniform, loguniform, randint, lograndint, choice, as in {loguniform: [1e-4, 1e-1]}"
            ],
        ),
        (
            "{model: {dropout: [0.1]}, model.dropout: [0.2]}",
            ["7:34: sweep.model.dropout: this key is given twice, first in line 7"],
        ),
        ("{seed: 2, sweep.seed: [1]}", ["7:18: sweep.sweep.seed: this cannot be swept: a sweep does not hold another"]),
        (
            "{optimizer.lr: 0.1}",
            [
                "7:23: sweep.optimizer.lr: expected a list of the values to try, or a distribution such as "
                "{loguniform: [1e-4, 1e-1]}, got 0.1; a value for all trials is given as optimizer.lr "
                "outside of the sweep"
            ],
        ),
        (
            "{optimizer.lr: {loguniform: [1e-4, 1]}}",
            [
                "7:23: sweep.optimizer.lr: values are drawn from a distribution only where it is said how often: add "
                "trials, such as trials: 20"
            ],
        ),
        (
            "{trials: 2, optimizer.lr: {loguniform: [0, 1]}}",
            ["7:48: sweep.optimizer.lr.loguniform.0: expected float > 0, since its logarithm is drawn, got 0"],
        ),
        (
            "{trials: 2, optimizer.lr: {uniform: [1, 1]}}",
            ["7:48: sweep.optimizer.lr.uniform.1: expected more than the lower bound 1, got 1"],
        ),
        (
            "{trials: 2, optimizer.lr: {uniform: [a, .inf]}}",
            [
                "7:45: sweep.optimizer.lr.uniform.0: expected float, got the text 'a'",
                "7:48: sweep.optimizer.lr.uniform.1: expected float of at most 1e+300, got inf",
            ],
        ),
        (
            "{trials: 2, optimizer.lr: {uniform: 3}}",
            ["7:44: sweep.optimizer.lr.uniform: expected the bounds, as in {uniform: [1e-4, 1e-1]}, got 3"],
        ),
        (
            "{trials: 2, train.batch_size: {randint: [8, 9.5]}}",
            ["7:52: sweep.train.batch_size.randint.1: expected int, got 9.5"],
        ),
        (
            "{trials: 2, optimizer.lr: {values: [1]}}",
            ["7:35: sweep.optimizer.lr.values: unknown distribution 'values' (did you mean 'choice'?)"],
        ),
        (
            "{trials: 2, optimizer.lr: {min: 1, max: 2}}",
            [
                "7:34: sweep.optimizer.lr: expected a list of the values to try, or one distribution; the "
                "distributions are uniform, loguniform, randint, lograndint, choice, as in {loguniform: [1e-4, 1e-1]}"
            ],
        ),
        (
            "{trials: 2, model.dropout: {uniform: [-0.1, 1.5]}}",
            [
                "7:46: model.dropout: expected float >= 0 and < 1, got -0.1",
                "7:52: model.dropout: expected float >= 0 and < 1, got 1.5",
            ],
        ),
        (
            "{trials: 2, train.batch_size: {uniform: [8, 9]}}",
            [
                f"7:{column}: train.batch_size: expected int >= 1 or 'auto', got {value}; randint and "
                "lograndint draw whole numbers"
                for column, value in ((49, 8.0), (52, 9.0))
            ],
        ),
        (
            "{trials: 2, train.batch_size: {randint: [0, 9]}}",
            ["7:49: train.batch_size: expected int >= 1 or 'auto', got 0"],
        ),
        (
            "{trials: 5, seed: [1, 2], dtype: [float32, float64]}",
            [
                "7:17: sweep.trials: there are only 4 combinations, and none is drawn twice; leave out "
                "trials to try them all"
            ],
        ),
        (
            f"{{seed: 101, optimizer.lr: {{choice: {list(range(100))}}}}}",
            ["7:1: sweep: these are 10,100 runs, and a config makes at most 10,000; trials: 100 draws some of them"],
        ),
        (
            "{trials: 10001, optimizer.lr: {uniform: [0, 1]}}",
            ["7:17: sweep.trials: these are 10,001 runs, and a config makes at most 10,000"],
        ),
        ("{seed: 2, halving: 3}", ["7:27: sweep.halving: one of 3 trials goes on, and there are only 2: leave it out"]),
        ("{seed: 2, min_epochs: 3}", ["7:30: sweep.min_epochs: this is for halving, which is not given"]),
        (
            "{seed: 3, halving: 3, min_epochs: 9}",
            ["7:42: sweep.min_epochs: expected fewer than the 9 epochs of a whole trial, got 9"],
        ),
        (
            "{train.epochs: [1, 2, 3], halving: 3}",
            [
                "7:9: sweep.train.epochs: this cannot be swept: halving decides how many epochs a trial is "
                "trained; leave out "
                "one of the two"
            ],
        ),
        (
            "{train: [{epochs: 1, batch_size: 2}]}",
            ["7:9: sweep.train: this cannot be swept: sweep one of its keys, such as train.batch_size"],
        ),
        (
            "{train.folds: [2]}",
            [
                "7:9: sweep.train.folds: this cannot be swept: every trial is cross-validated, and the mean over its "
                "folds counts"
            ],
        ),
        (
            "{data.name: [iris]}",
            [
                "7:9: sweep.data.name: this cannot be swept: the trials would be of other data, and their scores "
                "could not be "
                "compared"
            ],
        ),
        (
            "{checkpoint.keep: [1]}",
            ["7:9: sweep.checkpoint.keep: this cannot be swept: it does not change what a trial computes"],
        ),
        (
            "{model.batch_norm: [false, true], model.layer_norm: [false, true]}",
            ["7:68: model.layer_norm: a layer takes batch_norm or layer_norm, not both"],
        ),
        (
            "{optimizer.name: [SGD, Adam], optimizer.momentum: [0.9]}",
            [
                "7:38: optimizer.momentum: unknown key; the keys of Adam are: name, factors, lr, betas, eps, "
                "weight_decay, amsgrad, maximize, decoupled_weight_decay"
            ],
        ),
        (
            "{model.name: [mlp, residual_mlp]}",
            [
                "3:9: model.hidden: unknown key; the keys of residual_mlp are: name, width, blocks, activation, "
                "dropout, "
                "batch_norm, layer_norm, init (in the trial with model.name: residual_mlp); a sweep of the whole "
                "section gives each its own keys: model: [{name: ...}, ...]"
            ],
        ),
        ("{scheduler: [null, {name: StepLR}]}", ["7:27: scheduler.step_size: required key is missing (int >= 1)"]),
        ("{optimizer.lr.0: [1]}", ["7:9: sweep.optimizer.lr.0: 'optimizer.lr' is 0.001, which has no keys"]),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_mistakes(section: str, expected: list[str]) -> None:
    assert headlines(section) == [f"run.yaml:{line}" for line in expected]


def test_other_columns_are_not_other_rows(tmp_path: Path) -> None:
    """Rows that lack a value are left out by the columns that are kept."""
    config = tmp_path / "run.yaml"
    config.write_text(f"""
name: drop
data: {{file: {tmp_path}/t.csv, target: y, missing: drop_rows}}
model: {{name: mlp}}
loss: {{name: MSELoss}}
optimizer: {{name: SGD, lr: 0.1}}
train: {{epochs: 1, batch_size: 2}}
sweep: {{data.drop: [[], [a]]}}
""")
    with pytest.raises(ConfigError) as caught:
        load(config)
    assert str(caught.value).startswith(
        f"{config}:8:9: sweep.data.drop: this cannot be swept: rows that lack a value are left out"
    )
    assert [trial.values for trial in trials(load(config, ["data.missing=impute"]))] == [
        {"data.drop": []},
        {"data.drop": ["a"]},
    ]


PEAK = """name: t
data: {name: iris}
model: {hidden: [4]}
loss: {name: CrossEntropyLoss}
optimizer: {name: SGD, lr: 0.1}
scheduler: {name: SCHEDULE}
train: {epochs: 2, batch_size: 16}
sweep: {SWEEP}
"""


@pytest.mark.parametrize(
    "schedule", ["OneCycleLR, max_lr: 0.1", "CyclicLR, base_lr: 0.01, max_lr: 0.1, step_size_up: 4, interval: step"]
)
@pytest.mark.parametrize(
    "swept",
    [
        "optimizer.lr: [1e-3, 1e-2]",
        "trials: 3, optimizer.lr: {loguniform: [1e-4, 1e-1]}",
        "optimizer: [{name: SGD, lr: 0.1}, {name: SGD, lr: 0.2}]",
        "optimizer.lr: [0.1, 0.2], optimizer.momentum: [0.5, 0.9]",
    ],
)
def test_a_rate_beside_a_stated_peak_is_not_swept(schedule: str, swept: str) -> None:
    """The schedule takes its own rates, and trials would be the same training."""
    text = PEAK.replace("SCHEDULE", schedule)
    with pytest.raises(ConfigError, match=r"as scheduler.max_lr states the rates: sweep that instead, or leave it out"):
        loads(text.replace("SWEEP", swept))
    for fine in ("scheduler.max_lr: [0.1, 0.2]", "optimizer.momentum: [0.5, 0.9]"):
        assert loads(text.replace("SWEEP", fine)).sweep is not None
    assert loads(text.replace(schedule, "OneCycleLR").replace("SWEEP", swept)).sweep is not None
