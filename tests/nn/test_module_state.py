"""Hooks around the state dicts of modules, and state beside tensors: as PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import pytest

import nanotorch as torch
from oracle import agree

pytestmark = pytest.mark.parity


def hooks(t: Any) -> Any:
    log: list[Any] = []
    model = t.nn.Sequential(t.nn.Linear(1, 1), t.nn.Sequential(t.nn.Linear(1, 1, bias=False)))
    first, second = model
    handles = [
        model.register_state_dict_pre_hook(
            lambda module, prefix, keep: log.append(["before", type(module).__name__, prefix, keep])
        ),
        first.register_state_dict_pre_hook(lambda module, prefix, keep: log.append(["before", prefix, keep])),
        first.register_state_dict_post_hook(
            lambda module, state, prefix, _: state.update({f"{prefix}more": t.ones(1)})
        ),
        second.register_state_dict_post_hook(
            lambda module, state, prefix, _: log.append(["after", list(state), prefix])
        ),
        model.register_load_state_dict_pre_hook(
            lambda module, state, prefix, _, *rest: log.append([sorted(state), prefix, copy.deepcopy(rest)])
        ),
        first.register_load_state_dict_pre_hook(
            lambda module, state, prefix, *_: state.pop(f"{prefix}more", None) and None
        ),
        model.register_load_state_dict_post_hook(lambda module, keys: log.append(["loaded", list(map(list, keys))])),
        second.register_load_state_dict_post_hook(
            lambda module, keys: log.append(["loaded below", list(map(list, keys))])
        ),
    ]
    state = model.state_dict(keep_vars=True)
    log.append(list(state))
    log.append(list(map(list, model.load_state_dict(state))))
    del state["0.bias"]
    log.append([list(state), list(map(list, model.load_state_dict(state, strict=False)))])
    for handle in handles:
        handle.remove()
    return [*log, list(copy.deepcopy(model).state_dict())]


def struck(t: Any) -> Any:
    """Hooks that say that a key need not be there."""
    layer = t.nn.Linear(1, 1)
    layer.register_load_state_dict_post_hook(lambda module, keys: [part.clear() for part in keys] and None)
    keys = layer.load_state_dict({"weight": t.full((1, 1), 3.0), "other": t.ones(1)})
    return list(map(list, keys)), layer.weight


def refused(t: Any) -> Any:
    layer = t.nn.Linear(1, 1)
    layer.register_load_state_dict_pre_hook(lambda *arguments: arguments[-1].append("it is of another kind"))
    return layer.load_state_dict(layer.state_dict())


def returning(t: Any) -> Any:
    layer = t.nn.Linear(1, 1)
    layer.register_state_dict_post_hook(lambda *arguments: 3)
    return layer.state_dict()


def counting(t: Any) -> Any:
    class Counting(t.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.count = t.nn.Linear(1, 1), 3

        def get_extra_state(self) -> Any:
            return {"count": self.count}

        def set_extra_state(self, state: Any) -> None:
            self.count = state["count"]

    return t.nn.Sequential(Counting())


def extra(t: Any, strict: bool) -> Any:
    model = counting(t)
    state = model.state_dict()
    model[0].count = 5
    model.load_state_dict(state)
    found = [list(state), state["0._extra_state"], model[0].count]
    del state["0._extra_state"]
    return [*found, list(map(list, model.load_state_dict(state, strict=strict)))]


PROGRAMS = {
    "hooks": hooks,
    "struck": struck,
    "refused": refused,
    "returning": returning,
    "extra": lambda t: extra(t, False),
    "extra missing": lambda t: extra(t, True),
    "extra of nobody": lambda t: t.nn.Linear(1, 1).load_state_dict(
        {**t.nn.Linear(1, 1).state_dict(), "_extra_state": 3}
    ),
    "shared": lambda t: (lambda layer: list(t.nn.Sequential(layer, layer).state_dict(prefix="a.")))(t.nn.Linear(1, 1)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_are_pytorchs(name: str) -> None:
    agree(PROGRAMS[name])


def test_nothing_is_written_where_something_does_not_fit() -> None:
    model = counting(torch)
    state = model.state_dict()
    state["0._extra_state"], state["0.layer.weight"] = {"count": 9}, torch.ones(2, 2)
    with pytest.raises(RuntimeError, match=r"size mismatch for 0\.layer\.weight"):
        model.load_state_dict(state)
    assert model[0].count == 3


def test_extra_state_goes_through_a_file(tmp_path: Any) -> None:
    model = counting(torch)
    torch.save(model.state_dict(), tmp_path / "state")
    model[0].count = 7
    model.load_state_dict(torch.load(tmp_path / "state"))
    assert model[0].count == 3
