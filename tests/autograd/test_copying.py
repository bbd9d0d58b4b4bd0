"""Copies and pickles of tensors, modules and optimizers; files, which are never unpickled."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
import nanotorch.nn.functional as F
from fake_gpu import fake_gpu
from nanotorch import nn
from nanotorch.ops.docs import stubs
from oracle import pytorch, to_numpy

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


def through_joblib(value: Any) -> Any:
    import joblib

    file = io.BytesIO()
    joblib.dump(value, file)
    file.seek(0)
    return joblib.load(file)


WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "joblib": through_joblib,
    **{f"pickle {p}": lambda value, p=p: pickle.loads(pickle.dumps(value, p)) for p in PROTOCOLS},
}


@pytest.fixture(params=WAYS)
def duplicate(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return WAYS[request.param]


# ------------------------------------------------------------------------------------------ tensors


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
def test_values_and_dtypes_are_kept(dtype: str, duplicate: Callable[[Any], Any]) -> None:
    x = torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=getattr(torch, dtype))
    for tensor in (x, x.t(), x[:, ::2], x[0, 0], x[:0], x[:, :1].expand(2, 4)):
        twin = duplicate(tensor)
        assert type(twin) is torch.Tensor and twin.dtype is tensor.dtype and twin.shape == tensor.shape
        assert twin.tolist() == tensor.tolist() and twin.device is tensor.device
        assert twin.is_leaf and not twin.requires_grad and not twin._is_view()
        twin.fill_(1)
    assert x.tolist() == torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=x.dtype).tolist()


def test_leaves_keep_what_they_are(duplicate: Callable[[Any], Any]) -> None:
    x, parameter = torch.ones(2, requires_grad=True), nn.Parameter(torch.ones(3), requires_grad=False)
    first, again, frozen = duplicate((x, x, parameter))
    assert first is again and first.requires_grad and first.is_leaf
    assert type(frozen) is nn.Parameter and not frozen.requires_grad
    (first * 3).sum().backward()
    assert first.grad.tolist() == [3, 3] and x.grad is None


def test_the_gradient_is_copied_but_not_pickled() -> None:
    x = torch.ones(2, requires_grad=True)
    (x * 3).sum().backward()
    twin = copy.deepcopy(x)
    assert twin.grad.tolist() == [3, 3] and twin.grad is not x.grad
    assert pickle.loads(pickle.dumps(x)).grad is None


def test_history_cannot_be_copied() -> None:
    y = torch.ones(2, requires_grad=True) * 2
    for way in (*WAYS.values(), copy.copy):
        with pytest.raises(RuntimeError, match=r"graph leaves.*non-leaf.*MulBackward0.*\(2,\).*detach"):
            way(y)
    assert pickle.loads(pickle.dumps(y.detach())).tolist() == [2, 2]


def test_a_shallow_copy_shares_memory_and_version() -> None:
    x = torch.ones(2, requires_grad=True)
    twin = copy.copy(x)
    assert twin is not x and twin.requires_grad and twin.is_leaf and type(copy.copy(nn.Parameter(x))) is nn.Parameter
    y = twin.sin()
    with torch.no_grad():
        x.zero_()
    assert twin.tolist() == [0, 0] and twin._version == x._version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


class Named(torch.Tensor):
    """A tensor with attributes of its own."""


def test_attributes_of_subclasses_are_kept(duplicate: Callable[[Any], Any]) -> None:
    x = Named([1.0, 2.0])
    x.names = ["a", "b"]
    twin = duplicate(x)
    assert type(twin) is Named and twin.names == ["a", "b"] and twin.names is not x.names
    assert copy.copy(x).names is x.names


def test_pickling_warns_that_hooks_are_lost() -> None:
    x = torch.ones(2, requires_grad=True)
    handle = x.register_hook(lambda grad: grad * 2)
    with pytest.warns(UserWarning, match=r"hooks on a tensor of shape \(2,\) will not be serialized"):
        pickle.dumps(x)
    handle.remove()
    pickle.dumps(x)
    with (
        x.register_post_accumulate_grad_hook(lambda leaf: None),
        pytest.warns(UserWarning, match="will not be serialized"),
    ):
        pickle.dumps(x)
    pickle.dumps(x)


def test_arrays_that_cannot_be_written_to_are_copied(tmp_path: Path) -> None:
    x = torch.arange(4.0)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(x, 5, buffer_callback=buffers.append)
    assert len(buffers) == 1 and len(data) < 500  # the elements travel beside the pickle
    frozen = pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers])
    assert frozen.add_(1).tolist() == [1, 2, 3, 4] and x.tolist() == [0, 1, 2, 3]
    import joblib

    joblib.dump(x, tmp_path / "x")
    mapped = joblib.load(tmp_path / "x", mmap_mode="r")
    assert type(mapped._array) is np.ndarray and mapped.add_(1).tolist() == [1, 2, 3, 4]


def test_arrays_of_the_other_byte_order_are_converted() -> None:
    rebuild, (cls, array, *rest), _ = torch.ones(2).__reduce_ex__(4)
    assert rebuild(cls, array.astype(array.dtype.newbyteorder("S")), *rest).dtype is torch.float32


# ------------------------------------------------------------------------------------------ small objects


@pytest.mark.parametrize("way", [*WAYS.values(), copy.copy], ids=[*WAYS, "copy"])
def test_interned_objects_come_back_as_themselves(way: Callable[[Any], Any]) -> None:
    things = [
        torch.float32,
        torch.bool,
        torch.int64,
        torch.device("cpu"),
        torch.device("cuda:3"),
        torch.relu,
        F.softmax,
    ]
    for thing in things:
        assert way(thing) is thing
    size = way(torch.Size([2, 3]))
    assert type(size) is torch.Size and size == (2, 3) and size.numel() == 6


def test_every_function_can_be_pickled() -> None:
    functions = [*stubs.functions().values(), *(getattr(F, name) for name in F.__all__)]
    functions += [torch.Tensor.relu, torch.Tensor.mul_, torch.Tensor.relu_, torch.Tensor.uniform_]
    for function in functions:
        assert pickle.loads(pickle.dumps(function)) is function


def test_named_outputs(duplicate: Callable[[Any], Any]) -> None:
    top = torch.tensor([3.0, 1.0, 2.0]).topk(2)
    twin = duplicate(top)
    assert type(twin) is type(top) and twin.values.tolist() == [3, 2] and twin.indices.tolist() == [0, 2]


@pytest.mark.parametrize("way", [*WAYS.values(), copy.copy], ids=[*WAYS, "copy"])
def test_a_generator_continues_where_it_was(way: Callable[[Any], Any]) -> None:
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    twin = way(generator)
    assert twin.initial_seed() == 3
    first, second = (torch.randn(4, generator=g).tolist() for g in (generator, twin))
    assert first == second


# ------------------------------------------------------------------------------------------ modules


class Net(nn.Module):
    """Layers, tied weights, both kinds of buffers, a function and plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.LayerNorm(4))
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight = self.body[0].weight
        self.blocks = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.ModuleList([nn.ELU()])})
        self.register_buffer("offset", torch.ones(4))
        self.register_buffer("cache", torch.zeros(2), persistent=False)
        self.register_buffer("nothing", None)
        self.activation = torch.tanh
        self.history: list[int] = [1]

    def forward(self, x: Any) -> Any:
        return self.head(self.blocks["b"][0](self.activation(self.body(x)))) + self.offset


def test_modules(duplicate: Callable[[Any], Any]) -> None:
    net = Net()
    net(torch.randn(6, 4))
    net.eval()
    net.body.train()
    twin = duplicate(net)
    assert repr(twin) == repr(net) and list(twin.state_dict()) == list(net.state_dict())
    assert [n for n, _ in twin.named_buffers()] == [n for n, _ in net.named_buffers()] and "nothing" in twin._buffers
    assert [m.training for m in twin.modules()] == [m.training for m in net.modules()]
    assert twin.head.weight is twin.body[0].weight and twin.head.weight is not net.head.weight
    assert twin.history == [1] and twin.history is not net.history and twin.activation is torch.tanh
    x = torch.randn(3, 4)
    results = []
    for model in (net, twin):
        torch.manual_seed(1)
        model(x).sum().backward()
        results.append(
            [to_numpy(p.grad) for p in model.parameters() if p.grad is not None]
            + [to_numpy(model.body[1].running_mean)]
        )
    for mine, other in zip(*results, strict=True):
        np.testing.assert_array_equal(mine, other)
    twin.extra = nn.Linear(1, 1)
    assert not hasattr(net, "extra")


def test_a_shallow_copy_of_a_module_has_the_same_parts_but_its_own_list_of_them() -> None:
    net = Net()
    net.register_forward_hook(double)
    before = [name for name, _ in net.named_parameters()]
    twin = copy.copy(net)
    assert twin.head is net.head and twin.offset is net.offset
    twin.extra = nn.Linear(1, 1)
    twin.offset = None
    del twin.blocks
    twin.register_forward_hook(double)
    assert not hasattr(net, "extra") and net.offset is not None and "blocks" in dict(net.named_children())
    assert [name for name, _ in net.named_parameters()] == before
    assert len(net._hooks.forward) == 1 and len(twin._hooks.forward) == 2


class Cached(nn.Module):
    """Leaves something out of its pickles."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.cache: Any = torch.ones(2, requires_grad=True) * 2

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "cache": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.restored = True


def test_modules_may_have_their_own_state(duplicate: Callable[[Any], Any]) -> None:
    twin = duplicate(Cached())
    assert (
        twin.cache is None
        and twin.restored
        and [n for n, _ in twin.named_parameters()] == ["layer.weight", "layer.bias"]
    )


def double(module: Any, args: Any, output: Any) -> Any:
    return output * 2


def test_hooks_that_have_a_name_are_copied(duplicate: Callable[[Any], Any]) -> None:
    net = nn.Identity()
    net.handle = net.register_forward_hook(double)
    twin = duplicate(net)
    assert twin(torch.ones(1)).item() == 2
    extra = twin.register_forward_hook(double)
    assert twin(torch.ones(1)).item() == 4 and net(torch.ones(1)).item() == 2
    extra.remove()
    twin.handle.remove()
    assert twin(torch.ones(1)).item() == 1 and net(torch.ones(1)).item() == 2


def test_numbers_of_hooks_from_elsewhere_are_not_taken_again() -> None:
    net = nn.Identity()
    handle = net.register_forward_hook(double)
    twin = pickle.loads(pickle.dumps(net))
    numbers = twin._hooks.forward
    numbers[handle.id + 1] = numbers.pop(handle.id)  # as if another process had given it the next number
    twin.register_forward_hook(double)
    assert twin(torch.ones(1)).item() == 4


def test_lambdas_are_copied_but_cannot_be_pickled() -> None:
    net = nn.Identity()
    net.register_forward_hook(lambda module, args, output: output * 2)
    assert copy.deepcopy(net)(torch.ones(1)).item() == 2
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(net)


# ------------------------------------------------------------------------------------------ optimizers


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "Adam": lambda params: torch.optim.Adam(params, lr=0.01, amsgrad=True),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.01),
    "RMSprop": lambda params: torch.optim.RMSprop(params, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda params: torch.optim.Adagrad(params, lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_continues_the_same(name: str, duplicate: Callable[[Any], Any]) -> None:
    def train(model: Any, optimizer: Any, schedule: Any, generator: Any, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            x = torch.randn(8, 4, generator=generator)
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        return losses

    model = nn.Sequential(nn.Linear(4, 200), nn.Tanh(), nn.Linear(200, 100), nn.Linear(100, 3))
    assert model[2].weight.numel() > 16384  # updated on its own, the others gathered
    optimizer = OPTIMIZERS[name](model.parameters())
    run = (
        model,
        optimizer,
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
        torch.Generator().manual_seed(1),
    )
    train(*run, steps=3)
    again = duplicate(run)
    assert again[1].param_groups[0]["params"][0] is again[0][0].weight and again[2].optimizer is again[1]
    assert train(*again, steps=4) == train(*run, steps=4)


def test_an_optimizer_alone_brings_its_parameters() -> None:
    x = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([x])
    twin = pickle.loads(pickle.dumps(optimizer))
    assert twin.param_groups[0]["params"][0].tolist() == [1, 1, 1] and repr(twin) == repr(optimizer)


# ------------------------------------------------------------------------------------------ devices and processes


def test_tensors_go_back_to_their_gpu() -> None:
    with fake_gpu(device_count=2):
        net = nn.Linear(2, 2, device="cuda:1")
        data = pickle.dumps(net)
        twin = pickle.loads(data)
        assert twin.weight.device is torch.device("cuda:1") and twin.weight.tolist() == net.weight.tolist()
        assert copy.deepcopy(net).bias.device is net.bias.device
        shallow = copy.copy(net.weight)
        assert shallow._array is net.weight._array
    with (
        fake_gpu(device_count=1),
        pytest.raises(RuntimeError, match="'cuda:1' cannot be used: there is no GPU number 1"),
    ):
        pickle.loads(data)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_models_travel_between_processes(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {method} on this platform")
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).requires_grad_(False)
    inputs = [torch.randn(5, 3) for _ in range(3)]
    with multiprocessing.get_context(method).Pool(1) as pool:
        outputs = pool.map(net, inputs)
        net.requires_grad_(True)
        with pytest.raises(Exception, match="graph leaves"):
            pool.apply(net, (inputs[0],))
    for x, y in zip(inputs, outputs, strict=True):
        assert y.tolist() == net(x).tolist()


# ------------------------------------------------------------------------------------------ files


def explode() -> None:
    raise AssertionError("a file has run code")


class Bomb:
    """An object whose pickle calls a function when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ()


@pytest.mark.parametrize("protocol", [0, 1, *PROTOCOLS])
def test_files_are_never_unpickled(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"weight": Bomb()}, protocol))
    with pytest.raises(ValueError, match="not a safetensors file") as caught:
        torch.load(path)
    if protocol >= 2:
        assert "a pickle: loading it could run any code" in str(caught.value)


@pytest.mark.parity
def test_files_of_pytorch_are_recognised(tmp_path: Path) -> None:
    for zipped, words in ((True, "a zip archive, as torch.save"), (False, "a pickle")):
        pytorch.save({"weight": pytorch.ones(2)}, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=f"not a safetensors file but {words}.*safetensors.torch.save_file"):
            torch.load(tmp_path / "model.pt")
