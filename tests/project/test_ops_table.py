"""The op table and its command line, and the formulas as rows write them."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from nanotorch.ops.__main__ import main
from nanotorch.ops.docs.source import written_formulas
from nanotorch.ops.docs.table import as_markdown, as_text, entries, find
from nanotorch.ops.rows.row import ROWS
from nanotorch.registry import UnknownNameError

ROOT = Path(__file__).resolve().parents[2]


def test_every_formula_is_read_from_the_source() -> None:
    for row in ROWS.values():
        if row.formulas:
            check_formulas(row)


def check_formulas(row: Any) -> None:
    """What is shown is Python, and depends on nothing but what the formula gets and its module knows."""
    written = written_formulas(row)
    assert list(written) == list(row.formulas), row.name
    for name, (formula, parameters) in row.formulas.items():
        text = written[name].expression
        assert "\n" not in text, row.name
        names = {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}
        own = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        helpers = {head.split("(")[0] for head in written[name].helpers}
        known = {
            *parameters,
            *own,
            *helpers,
            *formula.__globals__,
            *row.forward.__globals__,
            *vars(sys.modules["builtins"]),
        }
        assert names <= known, row.name
        for head, body in written[name].helpers.items():
            ast.parse(f"def {head}:\n{textwrap.indent(body, '    ')}")


def test_lambdas_helpers_and_expressions() -> None:
    assert written_formulas(ROWS["mul"])["self"].expression == "grad * other"
    assert written_formulas(ROWS["floor"])["self"].expression == "xp.zeros_like(grad)"  # the helper's return
    power = written_formulas(ROWS["pow"])["self"]
    assert power.expression == "_pow_self(xp, grad, self, exponent)"
    assert "return grad * xp.where(exponent == 0" in power.helpers["_pow_self(xp, grad, self, exponent)"]
    linear = written_formulas(ROWS["linear"])["bias"]
    assert linear.expression == "xp.column_sums(_rows(xp, grad))" and list(linear.helpers) == ["_rows(xp, x)"]


def test_the_table_has_every_row_and_says_what_it_declares() -> None:
    table = {entry.name: entry for entry in entries()}
    assert set(ROWS) <= set(table)
    assert table["mul"].operators == ("*",) and table["mul"].inplace == "mul_" and table["mul"].node == "MulBackward0"
    assert table["transpose"].view and not table["mul"].view
    assert table["permute"].signature == "permute(input, *dims)"
    assert table["sum"].signature == "sum(input, dim=None, keepdim=False, *, dtype=None)"
    assert table["div"].composite and table["div"].inplace == "div_" and "div_" not in table
    assert table["_max_dim"].place == "behind max"
    assert "clip" in table["clamp"].aliases and "clip" not in table


@pytest.mark.parametrize("width", [79, 120])
def test_text_fits_the_terminal(width: int) -> None:
    for line in as_text(entries(), width).splitlines():
        assert len(line) <= width or " " not in line.strip()


def test_finding_ops() -> None:
    def names(pattern: str) -> list[str]:
        return [entry.name for entry in find(pattern, entries())]

    assert names("mul") == ["mul"] and names("mul_") == ["mul"] and names("div_") == ["div"]
    assert names("clip_") == names("clip") == ["clamp"]
    assert names("max") == ["_max_dim", "_max_all", "max"]
    assert names("MaxBackward0") == ["_max_dim", "_max_all"]
    assert {"softmax", "log_softmax"} <= set(names("*softmax"))
    with pytest.raises(UnknownNameError, match=r"unknown op 'sofmax' \(did you mean 'softmax'\?\)"):
        names("sofmax")


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pow", "softmax"]) == 0
    out = capsys.readouterr().out
    assert "PowBackward0   pow_   **" in out and "undefined = (self == 0)" in out and "SoftmaxBackward0" in out
    assert main(["--list", "--view"]) == 0
    listed = capsys.readouterr().out.split()
    assert "transpose" in listed and "mul" not in listed
    assert main(["mul", "--source"]) == 0
    assert "class MulBackward0(Node):" in capsys.readouterr().out
    assert main([]) == 0
    assert capsys.readouterr().out.count("self:") > 100


def test_command_line_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tanhh"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "unknown op 'tanhh' (did you mean 'tanh'?)" in captured.err
    for arguments in (["--source"], ["--source", "--list", "mul"], ["--lis"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m nanotorch.ops | head -1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert result.stderr == "" and result.stdout.count("\n") == 1


def test_markdown_cells_are_not_broken_by_bars() -> None:
    for line in as_markdown(entries()).splitlines():
        if line.startswith("| `"):
            assert line.replace("\\|", "").count("|") == 5
