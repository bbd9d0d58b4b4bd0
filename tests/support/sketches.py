"""Runs without the drawing of their figures, which takes nine tenths of the time of a small run.

Their page has an empty drawing in the place of each figure, and `learning_curve.png` is an empty file. Where a test or
its module is marked `drawn`, matplotlib draws.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import oracle
from nanotorch.train.report import figures
from nanotorch.train.report.markup import Html
from nanotorch.utils import files


def put_in_place(patch: pytest.MonkeyPatch) -> None:
    """Have every figure of a run's page, and the picture beside it, drawn by tests that are marked alone."""
    for name, draw in inspect.getmembers(figures, inspect.isfunction):
        if inspect.signature(draw).return_annotation == "Html" and not name.startswith("_"):
            patch.setattr(figures, name, _where_marked(draw, lambda *arguments, **more: Html("<svg></svg>")))
    patch.setattr(figures, "learning_curve", _where_marked(figures.learning_curve, _empty_file))


def _where_marked(draw: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(draw)
    def drawn(*arguments: Any, **more: Any) -> Any:
        marked = oracle.running[-1].get_closest_marker("drawn")
        return (draw if marked else otherwise)(*arguments, **more)

    return drawn


def _empty_file(path: Path, *arguments: Any) -> None:
    with files.writing(path, own=True):
        pass
