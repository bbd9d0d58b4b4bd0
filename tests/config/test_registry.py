"""The registries: names, suggestions, and signatures as schemas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotorch.registry import (
    Between,
    Fraction,
    NameIn,
    PositiveFloat,
    PositiveInt,
    Registry,
    UnknownNameError,
    closest,
    describe_type,
    describe_value,
)

if TYPE_CHECKING:
    from somewhere import NeverImported

TOOLS = Registry("tool", supplied=("owner",))


@TOOLS.register
class Hammer:
    """Drives nails.

    More about it.
    """

    def __init__(self, owner: NeverImported, weight: PositiveFloat, name_of_maker: str | None = None) -> None:
        self.weight = weight


@TOOLS.register("saw", cuts=True)
def make_saw(teeth: Annotated[int, Between(1, 99)] = 24, *rest: int, fine: bool = False, **more: int) -> str:
    """Cuts wood."""
    return f"{teeth} teeth"


@TOOLS.register
class Nail:
    """Needs nothing."""


def test_register_returns_the_object_unchanged() -> None:
    assert TOOLS.get("Hammer") is Hammer
    assert TOOLS.get("saw") is make_saw
    assert make_saw(3) == "3 teeth"


def test_names_are_sorted_without_regard_to_case() -> None:
    assert TOOLS.names() == list(TOOLS) == ["Hammer", "Nail", "saw"]
    assert len(TOOLS) == 3
    assert "saw" in TOOLS
    assert "make_saw" not in TOOLS


def test_facts_are_kept() -> None:
    assert TOOLS.entry("saw").facts == {"cuts": True}
    assert TOOLS.entry("Nail").facts == {}


def test_a_taken_name_is_refused_but_the_same_object_may_come_again() -> None:
    TOOLS.register(Hammer)
    with pytest.raises(ValueError, match="tool 'Hammer' is already registered"):
        TOOLS.register("Hammer")(Nail)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("hammer", "Hammer"), ("HAMMER", "Hammer"), ("Hamer", "Hammer"), ("sew", None), ("ail", "Nail")],
)
def test_unknown_names_are_key_errors_with_a_suggestion(wrong: str, right: str | None) -> None:
    with pytest.raises(UnknownNameError) as caught:
        TOOLS.get(wrong)
    hint = f"did you mean {right!r}?" if right else "known: Hammer, Nail, saw"
    assert str(caught.value) == f"unknown tool {wrong!r} ({hint})"
    assert isinstance(caught.value, KeyError)


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(UnknownNameError, match="none is registered"):
        Registry("thing").get("x")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("adam-w", ["Adam", "AdamW"], "AdamW"),
        ("batchsize", ["epochs", "batch_size"], "batch_size"),
        ("weigth_decay", ["weight_decay", "lr"], "weight_decay"),
        ("moons", ["make_moons", "make_circles"], "make_moons"),
        ("bce", ["MSELoss", "BCEWithLogitsLoss"], "BCEWithLogitsLoss"),
        ("n_samples", ["name", "test_size"], None),
        ("", ["lr"], None),
        ("os.system", ["Adam", "SGD"], None),
    ],
)
def test_closest(name: str, known: list[str], expected: str | None) -> None:
    assert closest(name, known) == expected


def test_arguments_leave_out_what_the_trainer_supplies_and_what_no_config_can_name() -> None:
    assert list(TOOLS.arguments("Hammer")) == ["weight", "name_of_maker"]
    assert list(TOOLS.arguments("saw")) == ["teeth", "fine"]
    assert TOOLS.arguments("Nail") == {}
    weight, maker = TOOLS.arguments("Hammer").values()
    assert weight.required
    assert not maker.required
    assert weight.annotation == PositiveFloat


def test_an_argument_without_annotation_is_the_programmers_mistake() -> None:
    things = Registry("thing")
    things.register("bare")(lambda size: size)
    with pytest.raises(TypeError, match="thing 'bare': its argument 'size' has no annotation"):
        things.arguments("bare")


def test_describe_is_one_line() -> None:
    assert TOOLS.describe("Hammer") == "Hammer(weight (float > 0), name_of_maker=null (string or null))  Drives nails."
    assert TOOLS.describe("saw") == "saw(teeth=24 (int >= 1 and <= 99), fine=false (true or false))  Cuts wood."
    assert TOOLS.describe("Nail") == "Nail()  Needs nothing."


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "int"),
        (Fraction, "float > 0 and < 1"),
        (tuple[Fraction, Fraction], "list of 2 float > 0 and < 1"),
        (tuple[PositiveInt, ...], "list of int >= 1"),
        (Iterable[float], "list of float"),
        (PositiveInt | list[PositiveInt] | None, "int >= 1 or list of int >= 1 or null"),
        (Annotated[str, NameIn(TOOLS)], "name of a registered tool"),
        (Literal["a", "b"] | bool, "'a' or 'b' or true or false"),
    ],
)
def test_describe_type(annotation: object, words: str) -> None:
    assert describe_type(annotation) == words


def test_describe_value() -> None:
    assert describe_value([None, True, 1e-3, "a", (1, 2)]) == "[null, true, 0.001, a, [1, 2]]"


BOUND = st.none() | st.integers(-5, 5)


@given(low=BOUND, high=BOUND, low_open=st.booleans(), high_open=st.booleans(), value=st.floats() | st.integers(-6, 6))
def test_between_agrees_with_comparison(
    low: int | None, high: int | None, low_open: bool, high_open: bool, value: float
) -> None:
    inside = abs(value) != float("inf") and value == value
    inside &= low is None or value > low or (value == low and not low_open)
    inside &= high is None or value < high or (value == high and not high_open)
    assert (value in Between(low, high, low_open, high_open)) == inside
