"""The documents keep their word: every block of every page runs and prints what it says,
links and commands lead somewhere.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import pytest

from oracle import pytorch

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(ROOT.glob("docs/**/*.md"))
DOCUMENTS = [*PAGES, *sorted(ROOT.glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
SHOWN_ONLY = {"text", "mermaid", "bash"}  # drawings, diagrams, commands
IMPORT = ">>> import nanotorch as torch"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def sessions(text: str) -> str:
    """The text with everything but interactive blocks blanked out, so that line numbers stay."""
    kept = re.sub(r"[^\n]", "", text)
    for block in FENCE.finditer(text):
        if block[1] == "pycon":
            start, end = block.span(2)
            kept = kept[: _same_line(text, kept, start)] + text[start:end] + kept[_same_line(text, kept, end) :]
    return kept


def _same_line(text: str, other: str, position: int) -> int:
    """The start of the line in another text that has the number of a position's line."""
    line = text.count("\n", 0, position)
    return len("".join(other.splitlines(keepends=True)[:line]))


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_blocks_run_and_print_what_they_say(path: Path) -> None:
    text = path.read_text()
    examples = doctest.DocTestParser().get_doctest(sessions(text), {"__name__": "__main__"}, name(path), str(path), 0)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF, verbose=False)
    results = runner.run(examples, out=report.append)
    assert results.failed == 0, "".join(report)
    assert results.attempted == sum(block[2].count(">>> ") for block in FENCE.finditer(text) if block[1] == "pycon")


# What the tutorial uses of nanotorch's own, and what docs/differences.md lists.
OURS = (
    "torch.explain",
    "torch.viz",
    "picture.",
    "torch.summary",
    "compiled",
    "part(",
    "about.",
    "detect_anomaly",
    "_saved_result",
    "x.exp().grad_fn(",
    "node.name()",
)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", [page for page in PAGES if page.parent.name == "tutorial"], ids=name)
def test_the_tutorial_is_true_of_pytorch_too(path: Path) -> None:
    """The same prompts print the same there, up to the words of errors and the addresses of objects."""
    pytorch.manual_seed(0)
    names: dict[str, Any] = {"__name__": "__main__"}
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for example in doctest.DocTestParser().get_examples(sessions(path.read_text())):
        if any(part in example.source for part in OURS):
            continue
        printed = io.StringIO()
        source = example.source.replace("import nanotorch as torch", "import torch").replace("nanotorch", "torch")
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(source, name(path), "single"), names)
        except Exception:
            assert example.exc_msg is not None, f"PyTorch raises at: {example.source}"
            continue
        assert example.exc_msg is None, f"PyTorch does not raise at: {example.source}"
        assert checker.check_output(example.want, printed.getvalue(), flags), (
            example.source,
            example.want,
            printed.getvalue(),
        )


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_blocks_are_of_known_kinds_and_pages_begin_with_the_import(path: Path) -> None:
    blocks = [(block[1], block[2]) for block in FENCE.finditer(path.read_text())]
    assert {kind for kind, _ in blocks} <= {"pycon", *SHOWN_ONLY}
    assert not re.search(r"^ +```", path.read_text(), flags=re.MULTILINE), "indented blocks would not be run"
    interactive = [body for kind, body in blocks if kind == "pycon"]
    assert not interactive or interactive[0].startswith(IMPORT)
    assert all(">>>" in body for body in interactive)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text())
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        page = (path.parent / file) if file else path
        assert page.exists(), f"{name(path)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{name(path)}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_modules_files_and_notes_that_are_named_exist(path: Path) -> None:
    text = path.read_text()
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module) is not None, f"{name(path)}: python -m {module}"
    for file in re.findall(r"`((?:nanotorch|configs|recipes|benchmarks|tests|docs)/[\w./-]*)`", text):
        assert (ROOT / file).exists(), f"{name(path)}: {file}"
    for note in re.findall(r"`?Note (\[[\w -]+\])`?", text):
        assert any(f"Note {note}" in source.read_text() for source in (ROOT / "nanotorch").rglob("*.py")), (
            f"{name(path)}: Note {note}"
        )


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting: list[Path] = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        targets = re.findall(r"\]\((?!https?:)([^)#\s]+\.md)", path.read_text())
        waiting += [(path.parent / target).resolve() for target in targets]
    missing: set[Any] = {name(page) for page in PAGES} - {name(page) for page in seen}
    assert not missing, f"no link leads to {missing}"
