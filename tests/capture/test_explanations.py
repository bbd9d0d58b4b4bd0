"""`compiled.explain()` and `compiled.code`: what they count is what a hand counts, and why programs were recorded."""

from __future__ import annotations

import re
from typing import Any

import pytest

import nanotorch as torch
from nanotorch import nn

ROWS, INPUTS, WIDTH, CLASSES = 32, 20, 50, 7


class Step:
    """A classifier of two layers with SGD."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.compiled = torch.compile(self.step, backend="numpy")

    def step(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def run(self, calls: int = 4, rows: int = ROWS) -> Any:
        for _ in range(calls):
            self.compiled(torch.randn(rows, INPUTS), torch.randint(0, CLASSES, (rows,)))
        return self.compiled.explain()


def test_operations_of_products_are_those_that_a_hand_counts() -> None:
    found = Step().run()
    counted = {(part.section, part.row): part.flops for part in found.parts}
    first, second = 2 * ROWS * INPUTS * WIDTH, 2 * ROWS * WIDTH * CLASSES
    biases = ROWS * (WIDTH + CLASSES)
    assert counted["forward", "linear"] == first + second + biases
    assert counted["backward", "linear"] == first + 2 * second + biases  # the first layer's input needs no gradient
    assert counted["update", "sgd"] >= 2 * ((INPUTS + 1) * WIDTH + (WIDTH + 1) * CLASSES)
    assert found.flops == sum(counted.values())
    assert sum(part.statements for part in found.parts) == len(found.program.statements)


def test_bytes_count_each_element_once_for_every_statement() -> None:
    [relu] = [part for part in Step().run().parts if (part.section, part.row) == ("forward", "relu")]
    assert relu.bytes == 2 * 4 * ROWS * WIDTH


def test_the_text_is_as_wide_as_a_terminal_and_the_plan_needs_less_than_eager() -> None:
    step = Step()
    found = step.run()
    assert 0 < found.temporaries < found.allocated
    for text in (str(found), step.compiled.code):
        assert max(map(len, text.splitlines())) <= 80
    assert "numpy: " in str(found) and "in all" in str(found)


def test_the_page_names_parameters_arguments_and_lines() -> None:
    step = Step()
    step.run()
    page = step.compiled.code
    assert "def step(x, y, *, lr):" in page and "model_0_weight.T" in page
    assert re.search(r"# test_explanations.py:\d+: loss = nn.functional.cross_entropy\(self.model", page)
    assert [line.strip("# -") for line in page.splitlines() if "----" in line] == [
        "checks", "forward", "backward", "update"
    ]  # fmt: skip


def test_why_a_program_was_recorded() -> None:
    step = Step()
    assert step.run().because == "as the first one"
    assert step.run(rows=8).because == "since no program was for arguments of this form"
    step.model.eval()
    assert "training" in step.run().because
    step.model.train()
    step.optimizer.param_groups[0]["weight_decay"] = 0.1
    assert step.run().because == "since the numbers of an optimizer decide otherwise"
    step.model[0].weight.data = step.model[0].weight.data.clone()
    assert "memory" in step.run().because


def test_the_program_that_was_recorded_last_is_the_one_that_is_shown() -> None:
    step = Step()
    with pytest.raises(RuntimeError, match="no program has been recorded yet"):
        _ = step.compiled.code
    step.run()
    assert f"x ({ROWS}, {INPUTS})" in step.compiled.code
    step.run(rows=8)
    assert f"x (8, {INPUTS})" in step.compiled.code


def test_a_module_that_is_differentiated_through_has_a_page_for_each_direction() -> None:
    model = torch.compile(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), backend="numpy")
    for _ in range(4):
        model(torch.randn(5, 4)).sum().backward()
    assert model.code.count("def step(") == 2 and "grad_tanh" in model.code
    [backward] = model.explain().backwards
    assert [part.section for part in backward.parts] == ["backward", "backward"]


def test_a_batch_of_another_size_is_no_reason_to_record_a_program_anew() -> None:
    step = Step()
    for _ in range(3):
        for rows in (ROWS, ROWS, ROWS, 5):
            step.compiled(torch.randn(rows, INPUTS), torch.randint(0, CLASSES, (rows,)))
    assert step.compiled._recorded == 2
