"""`save` and `load`: which values come back, through which files, and what damaged files and full disks do."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import random
import re
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as plain_save

import nanotorch as torch
from nanotorch import nn

DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]


def through_a_file(value: Any, **options: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, **options)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in type, structure and every bit."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
            return False
        return a.dtype is b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    return a == b


numbers = st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.none() | st.text()
tensors = st.builds(
    lambda shape, dtype: (torch.arange(math.prod(shape)).reshape(shape) % 2).to(getattr(torch, dtype)),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.sampled_from(DTYPES),
)
values = st.recursive(
    numbers | tensors | tensors.map(lambda t: t.numpy()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers(), st.text()), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("examples", [25, pytest.param(150, marks=pytest.mark.slow)])
def test_any_value_comes_back(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(values)
    def comes_back(value: Any) -> None:
        assert same(through_a_file(value), value)

    comes_back()


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2, 3),
        [],
        (),
        {},
        None,
        True,
        -0.0,
        1e308,
        2**64,
        "ü\ud800\0",
        {"model": {"w": torch.ones(2)}, "model.w": torch.zeros(1)},
        {"__metadata__": torch.ones(1)},
        {"a\ud800": torch.ones(1)},
        {1: {2: {3: (torch.ones(()),)}}},
        [[[[torch.zeros(0, 2)]]]],
        {None: 1, True: 2, 2.5: 3},
        {"x" * 20_000: torch.ones(1), "step": 1},
        {(1, ("a", 2.0)[0]): [None]},
        {"mean": np.linspace(0, 1, 5), "model": {"w": torch.ones(2)}},
        [np.zeros((0, 3), np.uint16), np.array(2 + 3j, np.complex64), np.ones(3, bool), np.float16([[1, np.nan]])],
        [np.float32(0.1), np.float64(0.1), np.int64(2**62), np.uint64(2**64 - 1), np.bool_(True), np.float16(-np.inf)],
        {np.int64(3): 1, np.float32(0.5): 2, torch.float32: 3, torch.device("cuda:1"): 4},
        [b"", b"\x00\xffbytes", 1 - 2j, complex(math.inf, -0.0), np.complex128(1 + 2j)],
        [{1, "a", (2, None)}, frozenset({b is None for b in (1,)}), set()],
        [torch.float64, torch.bool, torch.device("cpu"), torch.device("cuda"), torch.ones(2, 3).shape],
    ],
    ids=lambda v: re.sub(r"{.*}", "{...}", repr(v))[:25],
)
def test_edges_come_back(value: Any) -> None:
    if (
        isinstance(value, dict)
        and all(isinstance(v, torch.Tensor) for v in value.values())
        and list(value) in (["__metadata__"], ["a\ud800"])
    ):
        with pytest.raises(ValueError, match="cannot be the name of a tensor"):
            through_a_file(value)
        value = {**value, "step": 1}  # any other value has room for such names
    assert same(through_a_file(value), value)


def test_what_a_training_script_saves(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    scheduler.step()
    state = {
        "epoch": 3,
        "best": 0.25,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "rng": torch.get_rng_state(),
    }
    torch.save(state, tmp_path / "checkpoint.safetensors")
    loaded = torch.load(tmp_path / "checkpoint.safetensors", map_location="cpu", weights_only=True)
    assert same({**loaded, "model": OrderedDict(loaded["model"])}, state)
    again = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    again.load_state_dict(loaded["model"])
    other = torch.optim.AdamW(again.parameters())
    other.load_state_dict(loaded["optimizer"])
    for one in (model, again):
        one.zero_grad()
        one(torch.ones(5, 3) * torch.arange(5.0)[:, None]).sum().backward()
    optimizer.step()
    other.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_tensor_that_is_there_twice_is_one_tensor_again() -> None:
    shared = torch.ones(2)
    a, (b, c) = through_a_file([shared, (shared, torch.ones(2))])
    assert a is b and a is not c
    a, b = through_a_file([shared, shared], map_location="cpu")
    assert a is b


def test_values_have_no_history_and_can_be_written_to() -> None:
    w = nn.Parameter(torch.ones(2))
    loaded = through_a_file([w, w * 2, w[1:], torch.ones(2, 3).T])
    assert not any(t.requires_grad or t.grad_fn for t in loaded)
    for t in loaded:
        t.fill_(3.0)
    assert w.tolist() == [1.0, 1.0]


def test_tensors_of_a_device_come_back_where_one_wants(device: Any) -> None:
    loaded = through_a_file([torch.ones(2).to(device)])[0]
    assert loaded.device.type == "cpu"
    loaded = through_a_file({"a": [torch.ones(2)]}, map_location=device)["a"][0]
    assert loaded.device is device and loaded.tolist() == [1.0, 1.0]


def test_several_values_in_one_file_object() -> None:
    file = io.BytesIO()
    for value in ({"w": torch.ones(2)}, [1, torch.zeros(1)], "end"):
        torch.save(value, file)
    file.seek(0)
    assert same(torch.load(file), {"w": torch.ones(2)})
    assert same(torch.load(file), [1, torch.zeros(1)])
    assert torch.load(file) == "end"


Point = namedtuple("Point", "x y")


class Own:
    def state_dict(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [1, range(2)]}, r"value\['a'\]\['1'\] is a range"),
        ([np.array(["a"])], r"ndarray of dtype <U1.*tolist"),
        ([np.ma.masked_array([1.0])], r"MaskedArray"),
        ([np.longdouble(1)], "longdouble"),
        ([np.datetime64("2020")], "datetime64"),
        ([bytearray(2)], "bytearray"),
        (Point(1, 2), "value is a Point"),
        ([Own()], r"is a Own.*save its state_dict\(\)"),
        ({Own: 1}, "has a key of type type"),
        ([{1, frozenset()}], r"value\['0'\] has an element of type frozenset"),
        ([10**2000], "int of more than 4096 bits"),
        ({frozenset(): 1}, "has a key of type frozenset"),
        ([lambda: 1], "function"),
        ({(1, (2,)): 1}, "has a key of type tuple"),
    ],
    ids=lambda v: v if isinstance(v, str) else re.sub(r"{.*}| at 0x\w+", "", repr(v))[:40],
)
def test_what_a_file_cannot_hold_is_named_with_its_place(value: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        through_a_file(value)


def test_all_that_a_file_cannot_hold_is_named_before_it_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    torch.save([1], path)
    value = {"model": {"w": torch.ones(2)}, "log": [print, {Own: 1}], "more": [range(n) for n in range(30)]}
    with pytest.raises(TypeError) as caught:
        torch.save(value, path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "save: 32 parts of the value cannot be in a file:" and lines[-1] == "  and 12 more"
    assert "value['log']['0'] is a builtin_function_or_method" in lines[1]
    assert "value['log']['1'] has a key of type type" in lines[2] and "value['more']['0'] is a range" in lines[3]
    assert torch.load(path) == [1]
    with pytest.raises(TypeError):
        torch.save(value, file := io.BytesIO())
    assert file.getvalue() == b""


def test_arrays_come_back_as_arrays_of_their_own() -> None:
    shared = np.arange(6.0).reshape(2, 3).T
    a, b, swapped, view = through_a_file([shared, shared, np.arange(3, dtype=">i4"), shared[::2]])
    assert a is b and type(a) is np.ndarray and a.flags.writeable
    assert swapped.tolist() == [0, 1, 2] and view.tolist() == shared[::2].tolist()


def test_sets_are_written_in_one_order() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    torch.save({"b", "a", "c"}, first)
    torch.save({"c", "b", "a"}, second)
    assert first.getvalue() == second.getvalue()


def test_a_value_that_contains_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueError, match="does it contain itself"):
        through_a_file(value)
    for _ in range(40):
        value = [value[:0], value, value]  # of 2 ** 40 parts
    value[1][1] = []
    with pytest.raises(ValueError, match="does it contain itself"):
        through_a_file(value)


# ------------------------------------------------------------ files


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    torch.save([1], path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            torch.save([2], path)
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    assert torch.load(path) == [1] and os.listdir(tmp_path) == ["w.safetensors"]
    with pytest.raises(FileNotFoundError):
        torch.save([1], tmp_path / "missing" / "w.safetensors")


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "link").symlink_to("precious")
    os.link(tmp_path / "precious", tmp_path / "hard")
    for name in ("link", "hard"):
        torch.save([1], tmp_path / name)
        assert torch.load(tmp_path / name) == [1]
    assert (tmp_path / "precious").read_text() == "precious"
    with pytest.raises(IsADirectoryError):
        torch.save([1], tmp_path)
    torch.save([1], "/dev/null")
    os.chmod(tmp_path / "hard", 0o640)
    torch.save([2], tmp_path / "hard")
    assert (tmp_path / "hard").stat().st_mode & 0o777 == 0o640


def test_endless_devices_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="no plain file"):
        torch.load(tmp_path / "zero")
    with open("/dev/zero", "rb") as endless, pytest.raises(ValueError, match="not a safetensors file"):
        torch.load(endless)


def test_other_objects_than_files() -> None:
    with pytest.raises(TypeError, match=r"expected a path or an object with write\(\)"):
        torch.save([1], 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"expected a path or an object with read\(\)"):
        torch.load(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="open files in binary mode"):
        torch.load(io.StringIO("some text"))  # type: ignore[arg-type]


def crafted(structure: Any, **arrays: Any) -> bytes:
    text = structure if isinstance(structure, str) else json.dumps(structure)
    return plain_save({name: np.asarray(array) for name, array in arrays.items()}, metadata={"nanotorch": text})


DEEP = "[" * 100_000 + "]" * 100_000
BAD = {
    "no JSON": crafted("{"),
    "a list": crafted([1]),
    "two kinds": crafted({"list": [], "dict": []}),
    "unknown kind": crafted({"call": "os.system"}),
    "no such tensor": crafted({"tensor": "w"}),
    "tensor by number": crafted({"tensor": 0}, w=1.0),
    "unused tensor": crafted(None, w=1.0),
    "a constant": crafted("NaN"),
    "a float": crafted({"float": "1e999"}),
    "too large": crafted("1e999"),
    "long number": crafted("9" * 5000),
    "pairs": crafted({"dict": [[1]]}),
    "key twice": crafted({"dict": [["a", 1], ["a", 2]]}),
    "list as key": crafted({"dict": [[{"list": []}, 1]]}),
    "tensor as key": crafted({"dict": [[{"tensor": "w"}, 1]]}, w=1.0),
    "element twice": crafted({"set": [1, 1]}),
    "tensor in a set": crafted({"set": [{"tensor": "w"}]}, w=1.0),
    "tensor of complex": crafted({"tensor": "w"}, w=np.ones(1, np.complex64)),
    "bytes of floats": crafted({"bytes": "w"}, w=1.0),
    "scalar of a text": crafted({"scalar": ["float32", "a"]}),
    "scalar too large": crafted({"scalar": ["int8", 300]}),
    "scalar of objects": crafted({"scalar": ["object", 1]}),
    "scalar by list": crafted({"scalar": [[], 1]}),
    "complex of texts": crafted({"complex": ["1", "2"]}),
    "device": crafted({"device": "cuda:99999999999"}),
    "dtype": crafted({"dtype": ["float32"]}),
    "deep": crafted(DEEP),
    "deep lists": crafted('{"list":[' * 500 + "]}" * 500),
    "order": plain_save({"a": np.ones(1)}, metadata={"order": "{}"}),
    "order of others": plain_save({"a": np.ones(1)}, metadata={"order": '["b"]'}),
    "order of numbers": plain_save({"a": np.ones(1)}, metadata={"order": "[1]"}),
    "order deep": plain_save({"a": np.ones(1)}, metadata={"order": DEEP}),
    "order twice": plain_save({"a": np.ones(1)}, metadata={"order": '["a", "a"]'}),
    "unsigned": plain_save({"a": np.ones(1, np.uint16)}),
    "complex": plain_save({"a": np.ones(1, np.complex64)}),
    "more after it": plain_save({"a": np.ones(1)}) + b"x",
    "cut": plain_save({"a": np.ones(9)})[:-1],
    "header": (50).to_bytes(8, "little") + b"[" * 50,
    "header of a list": (2).to_bytes(8, "little") + b"[]",
    "header of a text": (8).to_bytes(8, "little") + b'{"a":""}',
    "deep header": (100_000).to_bytes(8, "little") + b"[" * 100_000,
    "offsets": (32).to_bytes(8, "little") + b'{"a":{"data_offsets":[0,"many"]}}'[:32],
    "huge": (1 << 60).to_bytes(8, "little"),
    "short": b"\x01",
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_file_is_one_sentence(case: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(BAD[case])
    with pytest.raises(ValueError, match=r"bad\.safetensors") as caught:
        torch.load(path)
    assert len(str(caught.value)) < 400 + len(str(path)) and "\n" not in str(caught.value)
    if case != "more after it":
        with pytest.raises(ValueError):
            torch.load(io.BytesIO(BAD[case]))


def test_damaged_bytes_give_a_value_or_one_sentence() -> None:
    file = io.BytesIO()
    torch.save({"a": [1, 2.5, (None, torch.ones(3))], "b": {1: torch.zeros(2, dtype=torch.int8)}}, file)
    good, rng = file.getvalue(), random.Random(0)
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            choice = rng.random()
            position = rng.randrange(len(data))
            if choice < 0.6:
                data[position] = rng.choice(b'0123456789{}[]",:abclistdicttensor\x00\xff')
            elif choice < 0.8:
                del data[position : position + rng.randint(1, 20)]
            else:
                data[position:position] = data[: rng.randint(1, 30)]
            data = data or bytearray(b"\0")
        try:
            torch.load(io.BytesIO(bytes(data)))
        except ValueError as error:
            assert "\n" not in str(error)
