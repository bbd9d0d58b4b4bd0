"""Random configs, run: nothing ends in a traceback, an empty message or a wrong exit code.

By default a part of them, of fixed seeds; with `-m slow` 300 valid and 1,000 mutated ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config_draws import mutated_configs, valid_configs, valid_sweeps
from nanotorch.train.cli.train import main
from nanotorch.train.config.loading import loads
from nanotorch.train.config.strict_yaml import ConfigError

MOST_ROWS = 2000  # of a mutated config that is still valid and is tried


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs in a folder of their own."""
    monkeypatch.chdir(tmp_path)


def ended(capsys: pytest.CaptureFixture[str], text: str, *options: str) -> tuple[int, str]:
    """Exit code and message of a run of a config, in which no traceback may be."""
    Path("run.yaml").write_text(text, encoding="utf-8")
    code = main(["run.yaml", "--quiet", *options])
    message = capsys.readouterr().err
    assert (code == 0) or message.strip(), text
    return code, message


def run_valid(
    capsys: pytest.CaptureFixture[str],
    count: int,
    seed: int,
    draw: Callable[[int, int], Iterator[dict[str, Any]]] = valid_configs,
) -> None:
    done = 0
    for config in draw(count, seed):
        code, message = ended(capsys, json.dumps(config))
        # A valid config ends well, or its data or its numbers do not allow what it asks for, and the message says so:
        # with the line.
        assert code in (0, 2, 3), (message, config)
        if code == 2:
            assert re.match(r"run\.yaml:1:[0-9]+: [a-z]+\.[a-z_0-9.]+: \S+ ", message), (message, config)
        if code == 3:
            assert "not finite" in message or "is nan" in message or "is inf" in message or "is -inf" in message, (
                message,
                config,
            )
        done += code == 0
    assert done > count / 3


def run_mutated(capsys: pytest.CaptureFixture[str], count: int, seed: int) -> None:
    for text in mutated_configs(count, seed):
        try:
            config = loads(text)
        except ConfigError as error:
            assert str(error).strip() and all(problem.message for problem in error.problems), text
            code, message = ended(capsys, text)
            assert code == 2 and message.endswith("\n"), (message, text)
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", message), (message, text)
            continue
        rows = config.data.arguments.get("n_samples", 100)
        if (
            (rows if isinstance(rows, int) else sum(rows)) <= MOST_ROWS
            and config.train.folds is None
            and config.train.repeats == 1
        ):
            code, message = ended(capsys, text, "--dry-run")
            assert code in (0, 1, 3) or re.match(r"run\.yaml:[0-9]+:[0-9]+: ", message), (message, text)


@pytest.mark.slow
def test_valid_configs_train(capsys: pytest.CaptureFixture[str]) -> None:
    run_valid(capsys, 40, seed=0)


@pytest.mark.slow
def test_valid_sweeps_train(capsys: pytest.CaptureFixture[str]) -> None:
    run_valid(capsys, 12, seed=0, draw=valid_sweeps)


@pytest.mark.slow
def test_mutated_configs_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    run_mutated(capsys, 150, seed=0)


@pytest.mark.slow
def test_many_valid_configs_train(capsys: pytest.CaptureFixture[str]) -> None:
    run_valid(capsys, 300, seed=10**8)


@pytest.mark.slow
def test_many_mutated_configs_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    run_mutated(capsys, 1000, seed=1)
