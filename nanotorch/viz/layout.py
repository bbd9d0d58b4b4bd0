"""Where the boxes of a layered graph go.

Note [Layered layout]
~~~~~~~~~~~~~~~~~~~~~
Four steps, after Sugiyama, Tagawa & Toda 1981, "Methods for visual understanding of hierarchical system structures":

1. *Layers.* A vertex stands one layer above the highest of those that use it, so that leaves are drawn beside their
   first use and not all at the top.
2. *Bends.* An edge that skips layers gets a point in each of them, which takes part in what follows.
3. *Order.* Sweeping down and up, each layer is sorted by the mean place of its neighbours in the layer before; of all
   orders seen the one with the fewest crossings stays.
4. *Places.* Sweeping again, each layer is moved as near as possible (least squares) to the mean place of its neighbours
   with the order and the distances kept. After subtracting the distances that is an isotonic regression, which pooling
   adjacent violators solves exactly in linear time (Barlow et al. 1972). Bends weigh more than boxes: long edges become
   straight. The last sweeps put every vertex below (and before that, above) that of its neighbours which has the
   longest history (or future), so that the main line of a computation runs straight down, and leaves near their users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12
GAP = 22.0  # between boxes of a layer
BEND_WEIGHT = 6.0


@dataclass(frozen=True)
class Layout:
    """Places of a drawing, in its units.

    Attributes:
        centres: the middle of every vertex.
        paths: for every edge the points of its way, from vertex to vertex.
        width: of the whole.
        height: of the whole.
    """

    centres: list[tuple[float, float]]
    paths: list[list[tuple[float, float]]]
    width: float
    height: float


def place(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    labels: Sequence[float],
    distance: float = 44.0,
) -> Layout:
    """Lay out a graph without cycles (Note [Layered layout]).

    Args:
        sizes: the width and height of every vertex.
        edges: pairs of vertices, drawn from the upper first to the lower second one.
        labels: for every edge the width to keep free at its last bend, if it has bends.
        distance: between the boxes of neighbouring layers.
    """
    layer_of = _layers(len(sizes), edges)
    widths = [width for width, _ in sizes]
    chains: list[list[int]] = []
    segments: list[tuple[int, int]] = []
    for (upper, lower), label in zip(edges, labels, strict=True):
        bends = range(layer_of[upper] + 1, layer_of[lower])
        chain = [upper, *range(len(widths), len(widths) + len(bends)), lower]
        widths += [label if bend == bends[-1] else 2.0 for bend in bends]
        layer_of += list(bends)
        chains.append(chain)
        segments += pairwise(chain)
    above: list[list[int]] = [[] for _ in widths]
    below: list[list[int]] = [[] for _ in widths]
    for upper, lower in segments:
        below[upper].append(lower)
        above[lower].append(upper)
    layers: list[list[int]] = [[] for _ in range(max(layer_of, default=-1) + 1)]
    for vertex in _by_depth_first_search(above, below):
        layers[layer_of[vertex]].append(vertex)
    _order(layers, above, below)
    x = _columns(layers, above, below, widths, len(sizes))
    heights = [max((sizes[v][1] for v in layer if v < len(sizes)), default=0.0) for layer in layers]
    y = [sum(heights[:number]) + number * distance + height / 2 for number, height in enumerate(heights)]
    left = min((x[v] - widths[v] / 2 for v in range(len(widths))), default=0.0)
    points = [(x[v] - left, y[layer_of[v]]) for v in range(len(widths))]
    right = max((points[v][0] + widths[v] / 2 for v in range(len(widths))), default=0.0)
    paths = [[points[v] for v in chain] for chain in chains]
    return Layout(points[: len(sizes)], paths, right, sum(heights) + distance * max(len(heights) - 1, 0))


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the layer of every vertex: one above the highest of those that use it."""
    users: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    sources: list[list[int]] = [[] for _ in range(count)]
    for upper, lower in edges:
        users[upper].append(lower)
        sources[lower].append(upper)
        waiting[upper] += 1
    rank = [0] * count
    ready = [vertex for vertex in range(count) if not waiting[vertex]]
    for vertex in ready:  # which grows
        rank[vertex] = max((rank[user] + 1 for user in users[vertex]), default=0)
        for source in sources[vertex]:
            waiting[source] -= 1
            if not waiting[source]:
                ready.append(source)
    if len(ready) < count:
        raise ValueError("the graph has a cycle: it cannot be drawn in layers")
    highest = max(rank, default=0)
    return [highest - r for r in rank]


def _by_depth_first_search(above: list[list[int]], below: list[list[int]]) -> list[int]:
    """Return the vertices in an order that keeps what belongs together near each other:
    from the lowest ones upwards.
    """
    order: list[int] = []
    seen: set[int] = set()
    for start in (vertex for vertex, users in enumerate(below) if not users):
        stack = [start]
        while stack:
            vertex = stack.pop()
            if vertex not in seen:
                seen.add(vertex)
                order.append(vertex)
                stack += reversed(above[vertex])
    return order


def _order(layers: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sort every layer by barycentres; keep the order with the fewest crossings."""
    best = [list(layer) for layer in layers]
    fewest = _crossings(layers, below)
    for sweep in range(SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        position = {vertex: float(number) for layer in layers for number, vertex in enumerate(layer)}
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            mean = {
                v: sum(position[n] for n in neighbours[v]) / len(neighbours[v]) if neighbours[v] else position[v]
                for v in layer
            }
            layer.sort(key=mean.__getitem__)
            position |= {vertex: float(number) for number, vertex in enumerate(layer)}
        crossings = _crossings(layers, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best


def _crossings(layers: list[list[int]], below: list[list[int]]) -> int:
    """Count the crossings between neighbouring layers: the inversions of the lower ends of their segments."""
    total = 0
    for upper, lower in pairwise(layers):
        position = {vertex: number for number, vertex in enumerate(lower)}
        tree = [0] * (len(lower) + 1)  # of Fenwick: counts of lower ends seen so far
        seen = 0
        for vertex in upper:
            ends = [position[user] for user in below[vertex] if user in position]
            for end in ends:
                total += seen - _prefix(tree, end + 1)
            for end in ends:
                index = end + 1
                while index < len(tree):
                    tree[index] += 1
                    index += index & -index
                seen += 1
    return total


def _prefix(tree: list[int], index: int) -> int:
    total = 0
    while index:
        total += tree[index]
        index -= index & -index
    return total


def _columns(
    layers: list[list[int]], above: list[list[int]], below: list[list[int]], widths: list[float], boxes: int
) -> list[float]:
    """Return the horizontal middle of every vertex."""
    x = [0.0] * len(widths)
    for layer in layers:
        start = -sum(widths[v] + GAP for v in layer) / 2
        for vertex in layer:
            x[vertex] = start + widths[vertex] / 2
            start += widths[vertex] + GAP
    history, future = [0] * len(widths), [0] * len(widths)
    for layer in layers:
        for vertex in layer:
            history[vertex] = max((history[n] + 1 for n in above[vertex]), default=0)
    for layer in reversed(layers):
        for vertex in layer:
            future[vertex] = max((future[n] + 1 for n in below[vertex]), default=0)

    def move(layer: list[int], wish: Callable[[int], tuple[list[int], float]]) -> None:
        """Move a layer towards the neighbours that each vertex wishes to be near, by the weight of the wish."""
        wishes = [wish(vertex) for vertex in layer]
        wanted = [
            sum(x[n] for n in near) / len(near) if near else x[v] for v, (near, _) in zip(layer, wishes, strict=True)
        ]
        weights = [weight for _, weight in wishes]
        for vertex, at in zip(layer, _nearest(wanted, weights, [widths[v] for v in layer]), strict=True):
            x[vertex] = at

    def towards(neighbours: list[list[int]]) -> Callable[[int], tuple[list[int], float]]:
        return lambda v: (neighbours[v], BEND_WEIGHT if v >= boxes else 1.0 if neighbours[v] else 0.01)

    def main_line(neighbours: list[list[int]], way: list[int]) -> Callable[[int], tuple[list[int], float]]:
        def wish(vertex: int) -> tuple[list[int], float]:
            longest = max((way[n] for n in neighbours[vertex]), default=0)
            near = [n for n in neighbours[vertex] if way[n] == longest]
            return near, BEND_WEIGHT if vertex >= boxes else 1.0 + longest if near else 0.01

        return wish

    def users(vertex: int) -> tuple[list[int], float]:
        return ([], 1e6) if above[vertex] else (below[vertex], 1.0)

    for sweep in range(2 * SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            move(layer, towards(above if sweep % 2 == 0 else below))
    up, down = main_line(below, future), main_line(above, history)
    for wish in (up, down, up, down, users):
        for layer in layers if wish is down else reversed(layers):
            move(layer, wish)
    return x


def _nearest(wanted: list[float], weights: list[float], widths: list[float]) -> list[float]:
    """Return the places nearest to those wanted that keep order and distances: pool adjacent violators."""
    offsets = [0.0]
    for one, other in pairwise(widths):
        offsets.append(offsets[-1] + (one + other) / 2 + GAP)
    blocks: list[list[float]] = []  # value, weight, members
    for value, weight, offset in zip(wanted, weights, offsets, strict=True):
        blocks.append([value - offset, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value2, weight2, members2 = blocks.pop()
            value1, weight1, members1 = blocks.pop()
            total = weight1 + weight2
            blocks.append([(value1 * weight1 + value2 * weight2) / total, total, members1 + members2])
    spread = [value for value, _, members in blocks for _ in range(int(members))]
    return [value + offset for value, offset in zip(spread, offsets, strict=True)]
