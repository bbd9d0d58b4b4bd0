"""What compiled rows are made of: slots that nobody else knows by name, and code that agrees with its description."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nanotorch
from nanotorch.autograd.graph.saved_slot import SavedSlot
from nanotorch.ops.rows.node_code import argument_slots
from nanotorch.ops.rows.row import ROWS

PACKAGE = Path(nanotorch.__file__).parent
WRITERS = {"node_code.py", "function_code.py", "code_plan.py"}
LETTERS = re.compile(r"""\bnode\.[svhprcwb]_\w|["'][svhprcwb]_["'{]|startswith\(["'][svhprcwb]_""")


def test_the_letters_of_slots_are_known_to_the_writers_of_code_alone() -> None:
    found = {
        path.name
        for path in PACKAGE.rglob("*.py")
        if LETTERS.search(path.read_text(encoding="utf-8")) and path.name not in WRITERS
    }
    assert found == set()
    assert LETTERS.search((PACKAGE / "ops/rows/node_code.py").read_text(encoding="utf-8"))


def test_every_slot_that_is_described_is_there_and_every_saved_name_is_described() -> None:
    for row in ROWS.values():
        if not row.formulas:
            continue
        assert row.node is not None
        slots = (*row.node.saved_slots, *argument_slots(row.compiler.plan))
        named = [getattr(slot, part) for slot in slots for part in ("value", "version", "cell") if getattr(slot, part)]
        assert set(named) <= set(row.node.__slots__), row.name
        shapes = {name for name in row.saved if name.endswith("_shape")}
        assert set(row.saved) - shapes <= {slot.name for slot in slots}, row.name
        assert all(isinstance(vars(row.node)[f"_saved_{slot.name}"], property) for slot in slots)
        assert {slot.kind for slot in row.node.saved_slots} <= {"input", "result"}


def test_replacing_a_result_moves_its_version_too() -> None:
    x = nanotorch.ones(2, requires_grad=True)
    y = x.exp()
    (slot,) = y.grad_fn.saved_slots
    assert isinstance(slot, SavedSlot) and slot.of(y.grad_fn) is y._array
    y.detach().mul_(3)
    slot.replace_result(y.grad_fn, y._array, y._version_cell())
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()


def test_importing_declares_rows_and_does_no_more() -> None:
    """What a row is made of, and what a program may never need, waits for its first use: an import pays for names."""
    code = (
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import nanotorch\n"
        "from nanotorch.ops.rows.row import ROWS\n"
        "print([row.name for row in ROWS.values() if {'compiler', 'formulas', 'return_type'} & set(vars(row))])\n"
        "late = 'numpy.random numpy.typing pathlib multiprocessing argparse subprocess tempfile shutil asyncio yaml'\n"
        "print([name for name in late.split() if name in set(sys.modules) - before])\n"
        "print('compiler' in vars(ROWS['exp']), nanotorch.ones(1).exp().shape, 'compiler' in vars(ROWS['exp']))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["[]", "[]", "False torch.Size([1]) True"]
