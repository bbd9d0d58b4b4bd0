"""A derivative of one's own: hidden units that output -1 or +1, trained with the straight-through estimator.

The sign function has derivative 0 almost everywhere, so autograd's (correct) answer is that nothing in
front of it can learn. `autograd.Function` lets us state another backward: pretend that sign was the
identity between -1 and 1 (Hubara et al. 2016, "Binarized Neural Networks"). A second Function, exact this
time, shows how a derivative that one has worked out by hand is verified with `gradcheck`.

    python recipes/custom_function.py

Expected output (a few seconds; the last digits depend on the machine):

    log(cosh(x)) by hand: gradcheck True, gradgradcheck True
    sign, its true derivative:  first layer moved False, test accuracy 0.8417
    sign, straight through:     first layer moved True, test accuracy 0.9611
    straight through is better by more than 0.05: True
"""

import math

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nanotorch as torch
from nanotorch import nn
from nanotorch.autograd import Function, gradcheck, gradgradcheck


class StraightThroughSign(Function):
    """sign(x) forward; backward as if it had been clamp(x, -1, 1)."""

    @staticmethod
    def forward(ctx, x):
        """Save what backward needs on ctx, and compute with tensors; nothing here is recorded."""
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, grad_output):
        """One gradient per argument of forward."""
        (x,) = ctx.saved_tensors
        return grad_output * (x.abs() <= 1)


class LogCosh(Function):
    """log(cosh(x)), whose derivative is tanh(x), in a form that does not overflow."""

    @staticmethod
    def forward(ctx, x):
        """|x| + log(1 + exp(-2|x|)) - log(2)."""
        ctx.save_for_backward(x)
        return x.abs() + (x.abs() * -2).exp().log1p() - math.log(2)

    @staticmethod
    def backward(ctx, grad_output):
        """Written with differentiable operations, so that it can itself be differentiated."""
        (x,) = ctx.saved_tensors
        return grad_output * x.tanh()


def accuracy_with(sign, data) -> tuple[bool, float]:
    """Train an MLP with binary hidden units; return whether its first layer moved, and the test accuracy."""
    train_features, test_features, train_labels, test_labels = data
    torch.manual_seed(0)
    first, second = nn.Linear(64, 64), nn.Linear(64, 10)
    before = first.weight.detach().clone()
    optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=3e-3)
    for _ in range(12):
        for rows in torch.randperm(len(train_labels)).split(64):
            optimizer.zero_grad()
            logits = second(sign(first(train_features[rows])))
            nn.functional.cross_entropy(logits, train_labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        predicted = second(sign(first(test_features))).argmax(1)
    moved = not torch.equal(first.weight, before)
    return moved, (predicted == test_labels).float().mean().item()


def main() -> None:
    """Check LogCosh, then train with both derivatives of sign."""
    torch.manual_seed(0)
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    exact = gradcheck(LogCosh.apply, (x,)), gradgradcheck(LogCosh.apply, (x,))
    print(f"log(cosh(x)) by hand: gradcheck {exact[0]}, gradgradcheck {exact[1]}")

    images, classes = load_digits(return_X_y=True)
    split = train_test_split(images / 8 - 1, classes, test_size=0.2, stratify=classes, random_state=0)
    data = [torch.tensor(part, dtype=torch.float32) for part in split[:2]] + [torch.tensor(part) for part in split[2:]]
    moved, plain = accuracy_with(torch.sign, data)
    print(f"sign, its true derivative:  first layer moved {moved}, test accuracy {plain:.4f}")
    moved, straight = accuracy_with(StraightThroughSign.apply, data)
    print(f"sign, straight through:     first layer moved {moved}, test accuracy {straight:.4f}")
    print(f"straight through is better by more than 0.05: {straight - plain > 0.05}")


if __name__ == "__main__":
    main()
