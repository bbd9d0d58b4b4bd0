"""A process that has the trainer imported and forks a child for every command line:
real processes to kill, in milliseconds.

Tests talk to it through `TrainerProcess`. A child runs `python -m nanotorch.train`'s `main` with its own output files,
and may be told to send itself a signal at a chosen moment: when a function of its is called for the n-th time.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARM = """\
name: warm
device: cpu
data: {name: iris}
model: {hidden: [8], dropout: 0.1, batch_norm: true}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.01}
train: {epochs: 1, batch_size: 15, accumulate: 2, metrics: [f1_macro]}
"""
FILE_CALLS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "symlink")


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code, negative for a signal, and what it printed."""

    code: int
    out: str
    err: str


class TrainerProcess:
    """The process, from the side of a test."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.runs = directory, 0
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __call__(self, *arguments: object, **plan: Any) -> Ended:
        """Train with these arguments.

        The plan: `at` = (function, n, signal) with function "step", "loss", "load", "evaluate" or "file"; `at` may also
        be a list of those; `after` = seconds until SIGKILL; `file_size` = the limit on the size of files; `without` =
        modules that cannot be imported; `cwd`; `uid` = the user.
        """
        self.runs += 1
        files = [str(self.directory / f"{self.runs}.{kind}") for kind in ("out", "err")]
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"arguments": list(map(str, arguments)), "files": files, **plan}) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        return Ended(code, *(Path(name).read_text(errors="replace") for name in files))

    def close(self) -> None:
        """End it."""
        self.process.communicate(timeout=30)


def serve() -> None:
    """Fork a child for every line of standard input; answer with how it ended."""
    import encodings.utf_8_sig  # noqa: F401  (whoever a child becomes may not read the library)

    import sklearn.datasets
    import sklearn.metrics
    import sklearn.preprocessing  # noqa: F401

    import nanotorch.train.config.loading
    import nanotorch.train.run.folds
    import nanotorch.train.run.run  # noqa: F401

    _warm_up()
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            _train(job)
        status = _wait(child, job.get("after"))
        print(os.waitstatus_to_exitcode(status), flush=True)


def _warm_up() -> None:
    """Train once, so that rows are compiled and lazy imports are done before children need them, and leave what there
    is out of their garbage collections, which would copy all of it.
    """
    from nanotorch.train.cli.train import main

    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        config = Path(name) / "warm.yaml"
        config.write_text(WARM)
        assert main([str(config), "--output", str(Path(name) / "run"), "--quiet"]) == 0
    gc.collect()
    gc.freeze()


def _wait(child: int, seconds: float | None) -> int:
    if seconds is not None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return status
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def _train(job: dict[str, Any]) -> None:
    code = 1
    try:
        sys.stdin.close()
        for number, name in enumerate(job["files"], start=1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in job.get("without", ["matplotlib"]):
            sys.modules.update(dict.fromkeys([key for key in sys.modules if key.split(".")[0] == name] + [name]))
        if "file_size" in job:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size"], resource.RLIM_INFINITY))
        if "cwd" in job:
            os.chdir(job["cwd"])
        if "uid" in job:  # who may not be allowed to read the checkout: so everything is imported first
            from nanotorch import train

            for module in pkgutil.iter_modules(train.__path__):
                importlib.import_module(f"nanotorch.train.{module.name}")
            os.setuid(job["uid"])
        _plant(job.get("at", []))
        from nanotorch.train.cli.train import main

        code = main(job["arguments"])
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _plant(moments: list[Any]) -> None:
    """Have functions send signals to this process."""
    from nanotorch import optim
    from nanotorch.train.fit import loop, loss_and_parts
    from nanotorch.train.run import open_run, run

    moments = [moments] if moments and isinstance(moments[0], str) else moments
    calls: dict[str, int] = {}

    def counted(kind: str, function: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs) if after else None
            calls[kind] = calls.get(kind, 0) + 1
            for name, number, what in moments:
                if name == kind and number == calls[kind]:
                    if what == "half":  # half of a file is written when the process dies
                        Path(args[0]).write_text("half")
                        what = signal.SIGKILL
                    os.kill(os.getpid(), what)
            return result if after else function(*args, **kwargs)

        return call

    optim.Adam.step = counted("step", optim.Adam.step, after=True)
    run.settled_data = counted("load", run.settled_data)
    open_run.evaluate = counted("scores", open_run.evaluate)
    loop.evaluate = counted("evaluate", loop.evaluate)
    make = loss_and_parts.summing_loss

    def summing_loss(*args: Any) -> Any:
        loss = make(*args)
        loss.forward = counted("loss", loss.forward)
        return loss

    loss_and_parts.summing_loss = summing_loss
    Path.write_bytes = counted("write", Path.write_bytes)
    # the disk itself does not die here: what was written is seen by the next process
    os.fsync = lambda descriptor: None
    for name in FILE_CALLS:
        setattr(os, name, counted("file", getattr(os, name)))


if __name__ == "__main__":
    serve()
