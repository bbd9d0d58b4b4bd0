"""The shape of the package: who imports whom, where CuPy may appear, and that the public surface is what it says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nanotorch
from nanotorch.ops.docs import stubs
from nanotorch.ops.rows.row import COMPOSITES, ROWS
from package_files import FILES, PACKAGE, ROOT, imports, module_of

# The rooms of the package in one line: a file imports from rooms before its own, and from its own room, never from a
# later one. A room is a folder or a file; a file that is named itself does not count to its folder. The `__init__` of a
# folder is its face: it may show what stands in the rooms inside the folder.
ROOMS = """
    registry command_start dtypes absent backend
    autograd.graph autograd
    ops.rows ops.shape ops.create ops.elementwise ops.index ops.reduce ops.linalg ops.nn ops ops.docs ops.__main__
    cuda random special linalg return_types func distributed
    utils.data utils optim capture
    nn nn.modules nn.utils nn.parallel optim.swa_utils
    explain summary viz
    train.terminal train.data train.score train.model train.config train.record
    train.fit train.fit.prepare train.fit.decided train.fit.part_on_device train.fit.loss_and_parts
    train.fit.random_numbers
    train.fit.moving_average train.fit.window_step train.fit.ranked_step train.fit.fitting train.fit.training
    train.fit.chunks train.fit.loop
    train.fit.epochs_ahead train.fit.together train.fit.build
    train.use train.report train.inspect train.run train.sweep train.cli train
    estimators
    predict evaluate report export compare __main__
"""
LINE = ROOMS.split()


def name_of(path: Path) -> str:
    return module_of(path).removeprefix("nanotorch").removeprefix(".")


def room_of(module: str) -> str:
    """Return the longest entry of the line that a module, named from inside the package, stands in."""
    parts = module.split(".")
    found = next((room for n in range(len(parts), 0, -1) if (room := ".".join(parts[:n])) in LINE), None)
    assert found, f"nanotorch.{module} stands in no room: name it in ROOMS, where its imports allow"
    return found


def modules(path: Path, for_types: bool = True) -> set[str]:
    """Return every module that a file imports; of the package itself, what it takes from there."""
    return {
        f"nanotorch.{found.name}" if found.module == "nanotorch" and found.name else found.module
        for found in imports(path)
        if for_types or not found.typing_only
    }


def test_every_room_of_the_line_is_there() -> None:
    known = {name_of(path) for path in FILES}
    assert [room for room in LINE if room not in known] == []
    assert len(set(LINE)) == len(LINE)


def test_imports_point_backwards_in_the_line() -> None:
    wrong = [text for path in FILES if path != PACKAGE / "__init__.py" for text in forward_imports(path)]
    assert not wrong, "\n".join(wrong)


def forward_imports(path: Path) -> Iterator[str]:
    name, room = name_of(path), room_of(name_of(path))
    applies = LINE.index(room) >= LINE.index("train.terminal")
    for module in modules(path, for_types=False):
        if module == "nanotorch" and not applies:
            yield f"{path}: import the module, not the whole package"
        if not module.startswith("nanotorch."):
            continue
        target = module.removeprefix("nanotorch.")
        if (PACKAGE / target.split(".")[0]).exists() or (PACKAGE / f"{target.split('.')[0]}.py").exists():
            inside = path.name == "__init__.py" and target.startswith(f"{name}.")
            if not inside and LINE.index(room_of(target)) > LINE.index(room):
                yield f"{path} imports {module}: {room_of(target)} comes after {room} in the line"
        elif not applies:
            yield f"{path}: {module} is a name of the public surface"


def test_the_training_step_knows_no_config() -> None:
    """What trains takes plain values: `build` alone turns a config into them, and the estimators have none."""
    names = (
        "part_on_device",
        "random_numbers",
        "moving_average",
        "window_step",
        "fitting",
        "training",
        "chunks",
        "loop",
    )
    plain = [PACKAGE / "train" / "fit" / f"{name}.py" for name in names]
    for path in [*plain, *(PACKAGE / "estimators").glob("*.py")]:
        assert not [m for m in modules(path) if m.startswith("nanotorch.train.config")], path


def test_a_run_is_told_by_one_narrator_in_phases_that_can_be_read() -> None:
    trees = [ast.parse((PACKAGE / "train" / "run" / name).read_text()) for name in ("run.py", "open_run.py")]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert max(node.end_lineno - node.lineno for node in functions if node.end_lineno) < 60
    called = [ast.unparse(node.func) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert called.count("print") <= 1  # the seed, before there is a run to tell of
    assert not [name for name in called if name.endswith(("files.log", "files.metrics")) or "stderr" in name]


def test_no_folder_needs_rooms() -> None:
    """More than some twenty files in one folder have rooms to find."""
    folders = [folder for top in ("nanotorch", "tests") for folder in (ROOT / top).rglob("*") if folder.is_dir()]
    crowded = {str(f.relative_to(ROOT)): n for f in folders if (n := len(list(f.glob("*.py")))) > 22}
    assert crowded == {}


def test_cupy_is_imported_in_one_file_only() -> None:
    users = {p.name for p in FILES for module in modules(p) if module.split(".")[0] in ("cupy", "cupyx")}
    assert users == {"cupy_backend.py"}


@pytest.mark.parametrize(
    ("module", "places"),
    [
        ("pydantic", {"train"}),
        ("yaml", {"train"}),
        ("tqdm", {"train"}),
        ("matplotlib", {"train"}),
        ("sklearn", {"train", "estimators"}),
        ("torch", set()),
    ],
)
def test_third_party_modules_stay_in_their_place(module: str, places: set[str]) -> None:
    assert {name_of(p).split(".")[0] for p in FILES for name in modules(p) if name.split(".")[0] == module} <= places


def test_import_nanotorch_loads_numpy_and_nothing_else_from_outside() -> None:
    code = (
        "import sys; import nanotorch; found = {name.split('.')[0] for name, m in sys.modules.items() if"
        " 'site-packages' in str(getattr(m, '__file__', ''))}; print(sorted(found - {'nanotorch'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [n for n in ast.literal_eval(out) if not n.startswith(("_", "distutils", "__editable__"))]
    assert names == ["numpy"]


WRITERS = {
    PACKAGE / "ops" / "rows" / "compiler.py",
    PACKAGE / "capture" / "conditions.py",
    PACKAGE / "capture" / "numpy_code.py",
    PACKAGE / "capture" / "table" / "table_code.py",
    PACKAGE / "train" / "use" / "python_export.py",
}


JOBLIB = {
    "from joblib import effective_n_jobs",
    "from joblib.externals.loky.process_executor import TerminatedWorkerError",
    "from joblib.parallel import get_active_backend",
}


def test_no_pickle_eval_or_dynamic_import_paths() -> None:
    for path in FILES:
        text = path.read_text()
        used = {
            node.func.id
            for node in (ast.walk(ast.parse(text)) if re.search(r"\b(eval|exec)\b", text) else ())
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "eval" not in used, path
        assert "exec" not in used or path in WRITERS, f"{path}: only rows and written programs are compiled"
        assert not modules(path) & {"pickle", "marshal", "shelve", "dill", "joblib.numpy_pickle"}, path
        taken = re.findall(r"^(?:import|from) joblib\b.*", text, re.MULTILINE)  # its processes are, its files are not
        assert set(taken) <= JOBLIB, path


def test_every_public_operator_is_exported() -> None:
    for name, function in stubs.functions().items():
        assert getattr(nanotorch, name) is function


def test_no_module_hides_an_operator_of_its_name() -> None:
    """`from nanotorch.ops import norm` is the operator, though a file is called so."""
    found = {name: getattr(nanotorch.ops, name) for name in (*ROWS, *COMPOSITES)}
    assert found == {name: entry.function for name, entry in (*ROWS.items(), *COMPOSITES.items())}


def test_every_operator_of_linalg_and_special_is_in_its_namespace() -> None:
    for entry in [e for e in (*ROWS.values(), *COMPOSITES.values()) if e.where in ("linalg", "special")]:
        assert getattr(getattr(nanotorch, entry.where), entry.name.removeprefix(f"{entry.where}_")) is entry.function


def test_generated_files_are_fresh() -> None:
    """Run `python -m nanotorch.ops.docs.stubs` after adding a row."""
    stale = [str(p) for p, content in stubs.written().items() if p.read_text(encoding="utf-8") != content]
    assert stale == []


def test_all_names_in_dunder_all_exist() -> None:
    import importlib

    for path in FILES:
        if path.name == "__main__.py" or path.name == "cupy_backend.py":
            continue
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.__all__ names {name}"


def test_operators_are_declared_once() -> None:
    assert not set(ROWS) & set(COMPOSITES)


def test_the_public_names_are_those_that_dir_tells() -> None:
    assert set(dir(nanotorch)) == {*nanotorch.__all__, "__version__"}
    assert not [name for name in nanotorch.__all__ if not hasattr(nanotorch, name)]
