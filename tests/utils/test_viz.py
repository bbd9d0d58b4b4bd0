"""viz.graph(): what the drawing holds, that its texts are well-formed, and that the layout keeps its promises."""

from __future__ import annotations

import itertools
import random
import re
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.viz import Graph
from nanotorch.viz.layout import GAP, place

SVG = "{http://www.w3.org/2000/svg}"


class Square(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * grad * x


def mlp() -> tuple[Any, Any]:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    return model, nn.functional.cross_entropy(model(torch.randn(5, 4)), torch.tensor([0, 1, 2, 0, 1]))


def arrows(graph: Graph) -> set[tuple[str, str, str]]:
    return {(graph.boxes[a.source].title, graph.boxes[a.target].title, a.label) for a in graph.arrows}


def test_boxes_and_arrows_of_an_mlp() -> None:
    model, loss = mlp()
    picture = torch.viz.graph(loss, params=model.named_parameters())
    assert arrows(picture) == {
        ("NllLossBackward0", "output", "()"),
        ("AddmmBackward0", "NllLossBackward0", "(5, 3)"),
        ("TanhBackward0", "AddmmBackward0", "(5, 8)"),
        ("AddmmBackward0", "TanhBackward0", "(5, 8)"),
        ("2.weight", "AddmmBackward0", "(3, 8)"),
        ("2.bias", "AddmmBackward0", "(3,)"),
        ("0.weight", "AddmmBackward0", "(8, 4)"),
        ("0.bias", "AddmmBackward0", "(8,)"),
    }
    kinds = {box.title: box.kind for box in picture.boxes}
    assert kinds["output"] == "output" and kinds["0.weight"] == "parameter" and kinds["TanhBackward0"] == "op"
    (tanh,) = [box for box in picture.boxes if box.title == "TanhBackward0"]
    assert tanh.saved == ("result (5, 8)",)
    assert (
        any("test_viz.py" in detail for detail in tanh.details) and "self: grad * (1 - result * result)" in tanh.details
    )


def test_nothing_changes() -> None:
    model, loss = mlp()
    seen = []
    loss.grad_fn.register_hook(lambda inputs, outputs: seen.append(1))
    torch.viz.graph(loss).save  # noqa: B018
    assert not seen and all(p.grad is None for p in model.parameters())
    loss.backward()
    assert seen == [1]


def test_a_released_graph_keeps_the_shapes_that_are_known() -> None:
    model, loss = mlp()
    loss.backward()
    found = arrows(torch.viz.graph(loss, model=model))
    assert ("0.weight", "AddmmBackward0", "(8, 4)") in found and ("TanhBackward0", "AddmmBackward0", "") in found


def test_edges_that_come_more_than_once_and_outputs_by_number() -> None:
    x = torch.ones(3, 4, requires_grad=True)
    a, b = (x * x).split([1, 3], 1)
    found = arrows(torch.viz.graph(torch.cat([a, b, a], 1), params={"x": x}))
    assert ("x", "MulBackward0", "(3, 4) twice") in found
    assert ("SplitWithSizesBackward0", "CatBackward0", "(3, 1) twice") in found
    assert ("SplitWithSizesBackward0", "CatBackward0", "(3, 3)") in found
    assert ("CatBackward0", "output", "(3, 5)") in found


def test_custom_functions_slices_and_unnamed_leaves() -> None:
    x = torch.rand(4, requires_grad=True)
    y = Square.apply(x) * 1
    y[0].mul_(2)
    kinds = {box.title: box.kind for box in torch.viz.graph(y.sum()).boxes}
    assert kinds["SquareBackward"] == "function" and kinds["CopySlices"] == "op" and kinds["leaf 1"] == "leaf"


def test_several_outputs_and_a_leaf_alone() -> None:
    x = torch.ones((), requires_grad=True)
    picture = torch.viz.graph([x * 2, x], params={"x": x})
    assert [box.title for box in picture.boxes if box.kind == "output"] == ["output 0", "x"]
    assert ("x", "x", "()") in arrows(picture)
    assert "Graph(1 op, 1 leaf)" in repr(picture)


def test_double_backward() -> None:
    x = torch.tensor(0.5, requires_grad=True)
    (first,) = torch.autograd.grad(x.tanh(), x, create_graph=True)
    titles = [box.title for box in torch.viz.graph(first).boxes]
    assert "TanhBackward0" in titles and titles.count("MulBackward0") >= 1
    ElementTree.fromstring(torch.viz.graph(first).svg)


def test_errors() -> None:
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.viz.graph(torch.ones(2))
    with pytest.raises(ValueError, match="more than limit=2"):
        torch.viz.graph((x * 2 + 1).sum(), limit=2)
    with pytest.raises(ValueError, match=r"must end in .svg, .mmd or .md, got 'graph.png'"):
        torch.viz.graph(x * 2).save("graph.png")


def test_svg_is_complete_and_escaped(tmp_path: Path) -> None:
    x = torch.ones(2, requires_grad=True)
    picture = torch.viz.graph((x * 2).sum(), params={'<w & "x">': x})
    root = ElementTree.fromstring(picture.svg)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {'<w & "x">', "MulBackward0", "(2,)"} <= set(texts)
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("width", "")) <= width and float(box.get("height", "")) <= height
    assert picture._repr_svg_() == picture.svg
    assert picture.save(tmp_path / "a.svg").read_text() == picture.svg
    assert picture.save(str(tmp_path / "a.mmd")).read_text() == picture.mermaid
    assert (tmp_path / "a.md").exists() is False
    assert picture.save(tmp_path / "a.md").read_text() == f"```mermaid\n{picture.mermaid}```\n"


def test_mermaid_is_a_flowchart_without_bare_brackets() -> None:
    x = torch.ones(2, requires_grad=True)
    lines = torch.viz.graph((x * x).sum(), params={'a"[b]|c;': x}).mermaid.splitlines()
    assert lines[0] == "flowchart TD"
    pattern = (
        r'    (n\d+(\[|\[\[|\(\[|\(\()"[^"|;]*(#\d+;[^"|;]*)*"(\]|\]\]|\]\)|\)\)):::\w+|n\d+ -->(\|"[^"|]*"\|)?'
        r" n\d+|classDef .*)"
    )
    assert all(re.fullmatch(pattern, line) for line in lines[1:]), lines
    assert "a#34;#91;b#93;#124;c#59;" in lines[-9]


def test_the_picture_in_the_readme_is_the_recipe_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python recipes/explain_a_step.py docs/graph.svg` draws it again."""
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    monkeypatch.setattr("sys.argv", ["explain_a_step.py", str(tmp_path / "graph.svg")])
    runpy.run_path(str(root / "recipes" / "explain_a_step.py"), run_name="__main__")
    assert (tmp_path / "graph.svg").read_text() == (root / "docs" / "graph.svg").read_text()


@pytest.mark.parametrize("seed", range(8))
def test_boxes_never_overlap_and_arrows_point_down(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randint(2, 60)
    sizes = [(rng.uniform(20, 160), rng.uniform(20, 70)) for _ in range(count)]
    pairs = {(rng.randrange(k), k) for k in range(1, count) for _ in range(rng.randint(0, 3))}
    edges = sorted(pairs)
    layout = place(sizes, edges, [30.0] * len(edges))
    for one, other in itertools.combinations(range(count), 2):
        (x1, y1), (x2, y2) = layout.centres[one], layout.centres[other]
        (w1, h1), (w2, h2) = sizes[one], sizes[other]
        assert abs(x1 - x2) >= (w1 + w2) / 2 + GAP - 1e-6 or abs(y1 - y2) >= (h1 + h2) / 2
    for (upper, lower), path in zip(edges, layout.paths, strict=True):
        assert path[0] == layout.centres[upper] and path[-1] == layout.centres[lower]
        assert all(y1 < y2 for (_, y1), (_, y2) in itertools.pairwise(path))
    for (x, y), (w, h) in zip(layout.centres, sizes, strict=True):
        assert w / 2 - 1e-6 <= x <= layout.width - w / 2 + 1e-6 and h / 2 - 1e-6 <= y <= layout.height - h / 2 + 1e-6


def test_a_chain_is_drawn_straight_and_a_cycle_is_refused() -> None:
    layout = place([(30.0, 20.0), (90.0, 20.0), (50.0, 20.0)], [(0, 1), (1, 2)], [0.0, 0.0])
    assert len({round(x, 6) for x, _ in layout.centres}) == 1
    with pytest.raises(ValueError, match="cycle"):
        place([(1.0, 1.0)] * 2, [(0, 1), (1, 0)], [0.0, 0.0])
    assert place([], [], []).width == 0
