"""What a Jacobian-vector product costs by two backward passes, against dual numbers written by hand.

    python -m benchmarks.forward_mode [--quick] [--rounds N] [--device cpu|cuda] [--json FILE]

The function is an MLP of four layers with tanh; batch and width are equal. Contestants: the forward pass alone, the
vector-Jacobian product (`autograd.functional.vjp`), the Jacobian-vector product (`autograd.functional.jvp`: Note
[Forward mode]), and forward mode as dual numbers would do it, with every tangent computed beside its value by hand.
Microseconds, medians over the rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import common

WIDTHS = (32, 128, 512)
LAYERS = 4


def calls(width: int, device: str) -> dict[str, Callable[[], Any]]:
    """Return what to time for one width."""
    import nanotorch as torch

    torch.manual_seed(0)
    layers = [torch.nn.Linear(width, width).to(device).requires_grad_(False) for _ in range(LAYERS)]
    x, v = torch.randn(width, width).to(device), torch.randn(width, width).to(device)

    def model(x: Any) -> Any:
        for layer in layers:
            x = layer(x).tanh()
        return x

    def dual() -> tuple[Any, Any]:
        value, tangent = x, v
        for layer in layers:
            value, tangent = layer(value).tanh(), torch.nn.functional.linear(tangent, layer.weight)
            tangent = tangent * (1 - value * value)
        return value, tangent

    expected = torch.autograd.functional.jvp(model, x, v)[1]
    assert torch.allclose(dual()[1], expected, rtol=1e-3, atol=1e-4)
    return {
        "forward": lambda: model(x),
        "vjp": lambda: torch.autograd.functional.vjp(model, x, v),
        "jvp": lambda: torch.autograd.functional.jvp(model, x, v),
        "dual numbers": dual,
    }


def main() -> None:
    """Time all widths and print the table."""
    options = common.arguments("Time Jacobian-vector products.")
    rounds, seconds = options.rounds or (1 if options.quick else 30), 0.0 if options.quick else 0.05
    rows, results = [], []
    for width in WIDTHS[:1] if options.quick else WIDTHS:
        found = common.summary(common.interleave(calls(width, options.device), rounds, seconds))
        medians = {name: median for name, (median, _) in found.items()}
        rows.append(
            [
                str(width),
                *(f"{value:.0f}" for value in medians.values()),
                f"{medians['jvp'] / medians['dual numbers']:.2f}",
            ]
        )
        results.append({"width": width, **medians})
    header = ["width", "forward", "vjp", "jvp", "dual numbers", "jvp/dual"]
    title = f"Jacobian-vector products, microseconds: medians of {rounds} rounds, {options.device}"
    common.report(title, common.machine(options.device), common.table(header, rows), results, options.json)


if __name__ == "__main__":
    main()
