"""Random tensors, drawn on the CPU from seeded generators so that every device sees the same numbers."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.locks import FURTHER
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.backend.device import CPU, Device
from nanotorch.ops.create.creation import create_into, finished, place_of, placed
from nanotorch.ops.rows.dims import whole
from nanotorch.ops.rows.inplace import check_writable, write_out
from nanotorch.ops.rows.row import Array, Number, composite, op
from nanotorch.ops.rows.runtime import need_number
from nanotorch.ops.shape.views import common_shape


class Generator:
    """A source of random numbers with its own seed (NumPy's PCG64).

    Attributes:
        numpy: the `numpy.random.Generator` that draws.

    >>> generator = torch.Generator().manual_seed(0)
    >>> torch.randperm(4, generator=generator).sort().values
    tensor([0, 1, 2, 3])
    """

    numpy: np.random.Generator

    def __init__(self, device: Any = "cpu") -> None:
        """Make a generator with an unpredictable seed; random numbers are always drawn on the CPU."""
        self.device: Device = CPU
        self.seed()

    def manual_seed(self, seed: int) -> Generator:
        """Start again from a seed of 64 bits, a negative one counting from `2**64` down; return the generator."""
        number = int(seed)
        if not -(2**63) <= number < 2**64:
            raise ValueError(f"a seed must be a whole number of at most 64 bits, got {seed!r}")
        self._seed = number % 2**64
        self.__dict__.pop("numpy", None)
        return self

    def __getattr__(self, name: str) -> np.random.Generator:
        """Make what draws when it is first asked for: importing `numpy.random` takes a tenth of NumPy's time."""
        if name != "numpy":
            raise AttributeError(f"'Generator' object has no attribute {name!r}")
        made = np.random.Generator(np.random.PCG64(self._seed))
        return self.__dict__.setdefault("numpy", made)  # one for all threads

    def seed(self) -> int:
        """Start again from an unpredictable seed, and return it."""
        self.manual_seed(int.from_bytes(os.urandom(8)) >> 1)
        return self._seed

    def initial_seed(self) -> int:
        """Return the seed from which the generator started."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """Return the state as a dict of ints and strings that JSON can hold."""
        return {"seed": self._seed, **self.numpy.bit_generator.state}

    def set_state(self, new_state: dict[str, Any]) -> None:
        """Continue from a state that `get_state` gave; a ValueError says what else was given."""
        try:
            if not isinstance(new_state, dict):
                raise TypeError(f"not a {type(new_state).__name__}")
            seed, source = new_state["seed"], np.random.PCG64(0)
            known: Any = {key: value for key, value in new_state.items() if key != "seed"}  # NumPy checks it
            source.state = known
            if type(seed) is not int or seed < 0:
                raise ValueError(f"seed={seed!r}")
        except (TypeError, KeyError, ValueError, OverflowError, AttributeError) as error:
            raise ValueError(
                f"set_state: expected a state that get_state gave, got {str(new_state)[:60]}: {error}"
            ) from None
        self._seed, self.numpy = seed, np.random.Generator(source)

    def _next_seed(self) -> int:
        """Draw 64 bits: the seed of a call of dropout (Note [Counters of dropout])."""
        return int(self.numpy.bit_generator.random_raw())

    def clone_state(self) -> Generator:
        """Return another generator that continues from the same state."""
        made = Generator()
        made.set_state(self.get_state())
        return made

    def __getstate__(self) -> dict[str, Any]:
        return self.get_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.device = CPU
        self.set_state(state)


default_generator: Generator = Generator()
FURTHER.append(lambda: default_generator.numpy.bit_generator.lock)  # NumPy holds it while it draws
_in_place: ContextVar[Generator] = ContextVar("drawing_from", default=default_generator)


class drawing_from:
    """A scope in which a generator takes the place of the default one, as that of a model does while it is trained:
    several models are trained side by side, and each draws what it draws alone. Threads that are started inside are
    outside.
    """

    __slots__ = ("_token", "generator")

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def __enter__(self) -> None:
        self._token: Token[Generator] = _in_place.set(self.generator)

    def __exit__(self, *error: object) -> None:
        _in_place.reset(self._token)


def source(generator: Generator | None = None) -> Generator:
    """Return a generator; for None the default one, or what takes its place (`drawing_from`)."""
    return _in_place.get() if generator is None else generator


def manual_seed(seed: int) -> Generator:
    """Seed the default generator and return it."""
    return source().manual_seed(seed)


def seed() -> int:
    """Seed the default generator unpredictably and return the seed."""
    return source().seed()


def initial_seed() -> int:
    """Return the seed of the default generator."""
    return source().initial_seed()


def get_rng_state() -> dict[str, Any]:
    """Return the state of the default generator, a dict of ints and strings that JSON can hold."""
    return source().get_state()


def set_rng_state(new_state: dict[str, Any]) -> None:
    """Let the default generator continue from a state that `get_rng_state` gave."""
    source().set_state(new_state)


@contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cuda") -> Iterator[None]:
    """Give the default generator back the state that it had before the `with` block, however that ends.

    Args:
        devices: accepted, since GPU tensors get their numbers from the same generator.
        enabled: False changes nothing.
        device_type: as `devices`.

    >>> with torch.random.fork_rng():
    ...     first = torch.rand(2)
    >>> torch.equal(torch.rand(2), first)
    True
    """
    before = get_rng_state()
    try:
        yield
    finally:
        if enabled:
            set_rng_state(before)


def numbers_of(generator: Generator | None) -> np.random.Generator:
    """Return what draws the numbers of a generator, the default one for None."""
    return source(generator).numpy


def _size(size: tuple[Any, ...]) -> tuple[int, ...]:
    if len(size) == 1 and not isinstance(size[0], int) and getattr(size[0], "ndim", True):
        size = tuple(size[0])
    return tuple(operator.index(n) for n in size)


def _uniform(xp: Any, generator: Generator | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Draw from [0, 1) in the given precision."""
    precise = dtype if dtype.itemsize >= 4 else np.dtype(np.float32)
    drawn = xp.draw(source(generator), "random", (shape, precise), precise)
    return drawn if dtype == precise else xp.astype(xp.floor(drawn * 2.0**11) / 2.0**11, dtype)  # rounding would give 1


def _normal(xp: Any, generator: Generator | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Draw from the standard normal distribution in the given precision."""
    precise = dtype if dtype.itemsize >= 4 else np.dtype(np.float32)
    return xp.draw(source(generator), "standard_normal", (shape, precise), dtype)


def _floating(name: str, dtype: Any) -> dtypes.DType:
    """Return a dtype that numbers of a continuous distribution can have, the default one for None."""
    found = dtypes.need_dtype(name, dtype or dtypes.get_default_dtype())
    if not found.is_floating_point:
        raise NotImplementedError(
            f"{name}: not implemented for {found}: the numbers have fractions; draw whole ones with randint"
        )
    return found


def rand(
    *size: Any,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return uniform numbers from [0, 1)."""
    if out is not None:
        return create_into("rand", out, dtype, lambda **place: rand(*size, generator=generator, **place))
    dtype = _floating("rand", dtype)
    place = place_of(device)
    return finished(_uniform(place.xp, generator, _size(size), dtype.numpy), place, requires_grad)


def randn(
    *size: Any,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return standard normal numbers."""
    if out is not None:
        return create_into("randn", out, dtype, lambda **place: randn(*size, generator=generator, **place))
    dtype = _floating("randn", dtype)
    place = place_of(device)
    return finished(_normal(place.xp, generator, _size(size), dtype.numpy), place, requires_grad)


def randint(
    low: int,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Return integers from [low, high), or [0, low) with one bound: `randint(high, size)`."""
    if out is not None:
        return create_into(
            "randint", out, dtype, lambda **place: randint(low, high, size, generator=generator, **place)
        )
    if size is None:
        low, high, size = 0, low, high
    if high <= low:
        raise RuntimeError(f"randint: 'from' must be less than 'to', got low={low}, high={high}")
    dtype = dtypes.need_dtype("randint", dtype or dtypes.int64)
    if not dtype.is_floating_point:
        limits = np.iinfo(dtype.numpy) if dtype is not dtypes.bool_ else None
        least, most = (0, 1) if limits is None else (int(limits.min), int(limits.max))
        if not (least <= low and high - 1 <= most):
            raise RuntimeError(f"randint: [{low}, {high}) is out of bounds for {dtype}")
    place = place_of(device)
    return finished(place.xp.draw(source(generator), "integers", (low, high, _size((size,))), dtype.numpy), place)


def randperm(
    n: int, *, generator: Generator | None = None, out: Tensor | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    """Return the numbers 0 to n - 1 in random order."""
    if out is not None:
        return create_into("randperm", out, dtype, lambda **place: randperm(n, generator=generator, **place))
    n = whole("randperm", "n", n)
    if n < 0:
        raise RuntimeError(f"randperm: n must be non-negative, got {n}")
    dtype = dtypes.need_dtype("randperm", dtype or dtypes.int64)
    dtypes.check_fits("randperm", max(n - 1, 0), dtype)
    if n > 1 and dtype.is_floating_point and n - 1 > 2 ** (np.finfo(dtype.numpy).nmant + 1):
        raise RuntimeError(f"randperm: {dtype} does not hold every whole number below {n}")
    place = place_of(device)
    return finished(place.xp.draw(source(generator), "permutation", (n,), dtype.numpy), place)


def rand_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return uniform numbers from [0, 1) in the shape of a tensor."""
    return rand(
        input.shape,
        generator=generator,
        dtype=dtype or input.dtype,
        device=device or input.device,
        requires_grad=requires_grad,
    )


def randn_like(
    input: Tensor,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return standard normal numbers in the shape of a tensor."""
    return randn(
        input.shape,
        generator=generator,
        dtype=dtype or input.dtype,
        device=device or input.device,
        requires_grad=requires_grad,
    )


def randint_like(
    input: Tensor,
    low: int,
    high: int | None = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Return integers from [low, high), or [0, low), in the shape of a tensor."""
    low, high = (0, low) if high is None else (low, high)
    return randint(
        low, high, input.shape, generator=generator, dtype=dtype or input.dtype, device=device or input.device
    )


def _check_std(name: str, std: Any) -> None:
    """Raise for a negative standard deviation, or one among those of a tensor."""
    negative = std.device.xp.holds(~(std._array < 0)) is False if isinstance(std, Tensor) else not std >= 0
    if negative:
        raise RuntimeError(
            f"{name}: expects std >= 0.0, but found {'a negative one' if isinstance(std, Tensor) else std}"
        )


def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """Return normal numbers; mean and std are numbers (then `size` says the shape) or tensors."""
    if out is not None:
        return write_out("normal", normal, out, {"mean": mean, "std": std, "size": size, "generator": generator})
    tensors = [v for v in (mean, std) if isinstance(v, Tensor)]
    _check_std("normal", std)
    if not tensors:
        if size is None:
            raise TypeError("normal: with numbers for mean and std, size= says the shape of the result")
        return randn(size, generator=generator, dtype=dtype, device=device) * std + mean
    shape = common_shape("normal", *tensors)
    with no_grad():
        drawn = (
            randn(shape, generator=generator, dtype=dtype or tensors[0].dtype, device=tensors[0].device) * std + mean
        )
    return _drawn_normal(mean, std, drawn._array)


def _no_influence(xp: Any, grad: Any) -> Any:
    return xp.zeros_like(grad)


@op(self=_no_influence, std=_no_influence, where="internal", node="NormalBackward3")
def _drawn_normal(xp: Any, self: Array | Number, std: Array | Number, drawn: Any) -> Array:
    """Numbers drawn already: no derivative says how a draw moves, and PyTorch's is 0."""
    return drawn


@op(self=_no_influence, where="internal", node="BernoulliBackward0")
def _drawn_bernoulli(xp: Any, self: Array, drawn: Any) -> Array:
    """Zeros and ones drawn already, with the derivative 0."""
    return drawn


@composite()
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """Return 1 with the probability that each element states, or with `p` for all, else 0."""
    if p is not None:
        return input.clone().bernoulli_(p, generator=generator)
    array, xp = input._array, input.device.xp
    if array.dtype.kind != "f" or xp.holds((array >= 0) & (array <= 1)) is False:
        raise RuntimeError("bernoulli: expects floating point probabilities in [0, 1]")
    drawn = _uniform(xp, generator, array.shape, np.dtype(np.float64)) < array
    return _drawn_bernoulli(input, xp.astype(drawn, array.dtype))


@composite()
def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return indices drawn with probability proportional to the weights of each row."""
    if out is not None:
        if isinstance(out, Tensor) and out.dtype is not dtypes.int64:
            raise RuntimeError(f"multinomial: expects out of torch.int64, for indices, got {out.dtype}")
        arguments = {"input": input, "num_samples": num_samples, "replacement": replacement, "generator": generator}
        return write_out("multinomial", multinomial, out, arguments)
    num_samples = whole("multinomial", "num_samples", num_samples)
    if num_samples <= 0:
        raise RuntimeError(f"multinomial: cannot sample num_samples <= 0 samples, got {num_samples}")
    weights = input.device.xp.to_numpy(input._array).astype(np.float64)
    if weights.ndim not in (1, 2) or not input.dtype.is_floating_point or not weights.shape[-1]:
        raise RuntimeError(
            f"multinomial: the weights are floating-point numbers in 1 or 2 dimensions, got {input.dtype} of shape"
            f" {weights.shape}"
        )
    rows = np.atleast_2d(weights)
    if (rows < 0).any() or not np.isfinite(rows).all() or (rows.sum(axis=1) <= 0).any():
        raise RuntimeError("multinomial: weights must be finite and non-negative, with a positive sum in every row")
    if not replacement and ((rows > 0).sum(axis=1) < num_samples).any():
        raise RuntimeError(f"multinomial: cannot draw {num_samples} without replacement from fewer non-zero weights")
    numbers = numbers_of(generator)
    drawn = np.array([numbers.choice(len(row), num_samples, replacement, row / row.sum()) for row in rows], np.int64)
    return placed(drawn.reshape(*weights.shape[:-1], num_samples), input.device)


def overwrite(name: str, target: Tensor, drawn: Any) -> Tensor:
    """Write an array of drawn numbers to a tensor."""
    check_writable(name, target)
    if target.requires_grad:
        return target.copy_(from_array(drawn, target.device))
    target._bump_version("a random fill", 3)
    target.device.xp.write(target._array, drawn)
    return target


@composite(where="method")
def uniform_(input: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with uniform numbers from [a, b)."""
    a, b = need_number("uniform_", "from", a), need_number("uniform_", "to", b)
    if not a <= b:
        raise RuntimeError(f"uniform_: expects to return a [from, to) range, but found from={a} > to={b}")
    if not np.isfinite(b - a):
        raise RuntimeError(f"uniform_: expects a range of finite numbers, got from={a} to={b}")
    drawn = _uniform(input.device.xp, generator, input._array.shape, input._array.dtype)
    return overwrite("uniform_", input, drawn * (b - a) + a)


@composite(where="method")
def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with normal numbers."""
    mean, std = need_number("normal_", "mean", mean), need_number("normal_", "std", std)
    _check_std("normal_", std)
    drawn = _normal(input.device.xp, generator, input._array.shape, input._array.dtype)
    return overwrite("normal_", input, drawn * std + mean)


@composite(where="method")
def bernoulli_(input: Tensor, p: float | Tensor = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with ones of probability `p`, else zeros."""
    xp, dtype = input.device.xp, input._array.dtype
    chance = p.to(input.device)._array if isinstance(p, Tensor) else float(p)
    inside = xp.holds((chance >= 0) & (chance <= 1)) is not False if isinstance(p, Tensor) else 0 <= chance <= 1
    if not inside:
        raise RuntimeError(f"bernoulli_: expects p to be in [0, 1], but got p={p}")
    drawn = _uniform(xp, generator, input._array.shape, np.dtype(np.float64)) < chance
    return overwrite("bernoulli_", input, xp.astype(drawn, dtype))
