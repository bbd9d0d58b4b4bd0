"""The package in unusual processes: children of a fork, and Python without assertions and docstrings."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nanotorch

HELD = """
import os, signal, threading, time
import nanotorch as torch
from nanotorch.autograd.graph import locks

every = [lock for lock in vars(locks).values() if isinstance(lock, type(threading.RLock()))]

def hold(lock, held):
    with lock:
        held.set()
        time.sleep(0.1)

def free():
    took = [lock.acquire(timeout=5) for lock in every]
    os._exit(0 if all(took) else 1)

codes = []
for lock in every:
    held = threading.Event()
    holder = threading.Thread(target=hold, args=(lock, held))
    holder.start()
    held.wait()
    child = os.fork()
    if not child:
        signal.alarm(30)
        torch.ones(2, requires_grad=True).sum().backward()
        threading.Thread(target=free).start()
        signal.pause()
    codes.append(os.waitpid(child, 0)[1])
    holder.join()
print(len(every) >= 3, codes == [0] * len(every))
"""

PACKAGE = Path(nanotorch.__file__).parent

FORKS = """
import os, signal, threading
import nanotorch as torch

done, weight = threading.Event(), torch.ones(30, 30, requires_grad=True)

def work():
    while not done.is_set():
        (torch.randn(30, 30) @ weight).relu().sum().backward()
        with torch.inference_mode():
            weight * 2

threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads:
    thread.start()
codes = []
for _ in range(25):
    child = os.fork()
    if not child:
        signal.alarm(20)
        other = torch.ones(3, requires_grad=True)
        (other * torch.randn(3)).sum().backward()
        (weight * 2).sum().backward()
        with torch.inference_mode():
            other * 2
        os._exit(0)
    codes.append(os.waitpid(child, 0)[1])
    if codes[-1]:
        break
done.set()
for thread in threads:
    thread.join()
print(codes)
"""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=PACKAGE.parent,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_child_of_a_fork_finds_no_lock_that_another_thread_holds() -> None:
    ran = python("-c", FORKS)
    assert (ran.stdout.strip(), ran.stderr) == (str([0] * 25), "")


def test_a_child_of_a_fork_finds_every_lock_free_while_a_thread_holds_it() -> None:
    ran = python("-W", "ignore::DeprecationWarning", "-c", HELD)
    assert (ran.stdout.strip(), ran.stderr) == ("True True", "")


def test_all_locks_are_made_where_forks_see_them() -> None:
    locks = re.compile(r"\b(Lock|RLock|Condition|Semaphore|BoundedSemaphore|allocate_lock)\b")
    makers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if locks.search(path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if locks.fullmatch(getattr(node, "attr", getattr(node, "id", "")))
    }
    assert makers - {"capture/reach/kinds.py"} == {"autograd/graph/locks.py"}  # which makes two to ask for their types


@pytest.mark.slow
def test_a_run_without_assertions_and_docstrings(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "name: run\ndata: {name: make_moons, n_samples: 40}\nmodel: {hidden: [4]}\nloss: {name: BCEWithLogitsLoss}\n"
        "optimizer: {name: Adam}\ntrain: {epochs: 1, batch_size: 20}\n"
    )
    ran = python("-m", "nanotorch.train", str(config), "--output", str(tmp_path / "out"), "--quiet", PYTHONOPTIMIZE="2")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    listed = python("-m", "nanotorch.train", "--list", "losses", PYTHONOPTIMIZE="2")
    assert listed.returncode == 0 and "CrossEntropyLoss:" in listed.stdout
    shown = python("-m", "nanotorch.ops", "exp", PYTHONOPTIMIZE="2")
    assert shown.returncode == 0 and "grad * result" in shown.stdout
