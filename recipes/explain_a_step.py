"""Explain a training step: which formulas ran, and where the gradient went.

`torch.explain(loss)` walks through the backward pass in the order in which the engine runs it: the line of your code,
the formula as the op's row writes it, the norm of every gradient. The same numbers, read as data, show why deep
networks of sigmoids learn slowly: each derivative is at most 1/4, so what reaches the first layer is a tiny fraction of
what reaches the last (Hochreiter 1991; Glorot & Bengio 2010).

    python recipes/explain_a_step.py [graph.svg]

Expected output (a second; the norms depend on the machine in their last digits):

    backward from a tensor of shape (): 4 steps, 4 leaves
      1  NllLossBackward0                              recipes/explain_a_step.py:73 in loss_of
         > return nn.functional.cross_entropy(logits, labels)
         grad  ()        norm 1.000
         self  (150, 3)  norm 0.06985  to step 2
             = _cross_entropy_self(xp, grad, reduction, _slope, _total_weight)
                 if reduction == "none":
                     return _slope * grad[:, None]
                 return _slope * (grad / _total_weight if reduction == "mean" else grad)
      2  AddmmBackward0                                recipes/explain_a_step.py:72 in loss_of
         > logits = model(features)
         grad    (150, 3)   norm 0.06985
         self    (150, 16)  norm 0.04222  to step 3
             = xp.matmul(grad, weight)
         weight  (3, 16)    norm 0.8780   to 2.weight
             = xp.matmul(_rows(xp, grad).T, _rows(xp, self))
         bias    (3,)       norm 0.05938  to 2.bias
             = xp.column_sums(_rows(xp, grad))
      3  TanhBackward0                                 recipes/explain_a_step.py:72 in loss_of
         > logits = model(features)
         grad  (150, 16)  norm 0.04222
         self  (150, 16)  norm 0.03394  to step 4
             = grad * (1 - result * result)
      4  AddmmBackward0                                recipes/explain_a_step.py:72 in loss_of
         > logits = model(features)
         grad    (150, 16)  norm 0.03394
         weight  (16, 4)    norm 0.4865   to 0.weight
             = xp.matmul(_rows(xp, grad).T, _rows(xp, self))
         bias    (16,)      norm 0.03630  to 0.bias
             = xp.column_sums(_rows(xp, grad))
    leaves
      2.bias    (3,)     norm 0.05938
      2.weight  (3, 16)  norm 0.8780
      0.bias    (16,)    norm 0.03630
      0.weight  (16, 4)  norm 0.4865
    norm of the gradient of each weight, from the first layer to the last
    Sigmoid  0.000031 0.000084 0.000416 0.002369 0.012936 0.079670
    ReLU     0.008772 0.014515 0.017458 0.016230 0.014788 0.034488
    backward leaves no trace: True
    sigmoids starve the first layer: True
"""

import sys
from itertools import pairwise

from sklearn.datasets import load_iris

import nanotorch as torch
from nanotorch import nn


def mlp(activation, depth: int) -> nn.Module:
    """An MLP from the four measures of a flower to its three kinds."""
    sizes = [4] + [16] * depth
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 3))


def loss_of(model, features, labels):
    """The mean cross-entropy."""
    logits = model(features)
    return nn.functional.cross_entropy(logits, labels)


def main() -> None:
    """Explain a small network, then compare how far gradients reach in two deep ones."""
    data = load_iris()
    features = torch.tensor((data.data - data.data.mean(0)) / data.data.std(0), dtype=torch.float32)
    labels = torch.tensor(data.target)

    torch.manual_seed(0)
    model = mlp(nn.Tanh, depth=1)
    loss = loss_of(model, features, labels)
    print(torch.explain(loss, model).text(90).replace("\n\n", "\n"))
    if len(sys.argv) > 1:
        torch.viz.graph(loss, model).save(sys.argv[1])

    print("norm of the gradient of each weight, from the first layer to the last")
    share = {}
    for activation in (nn.Sigmoid, nn.ReLU):
        torch.manual_seed(0)
        deep = mlp(activation, depth=5)
        walk = torch.explain(loss_of(deep, features, labels), deep)
        norms = {leaf.name: leaf.norm for leaf in walk.leaves}
        weights = [norms[name] for name, _ in deep.named_parameters() if name.endswith("weight")]
        share[activation] = weights[0] / weights[-1]
        print(f"{activation.__name__:8}", " ".join(f"{norm:.6f}" for norm in weights))
    print(f"backward leaves no trace: {all(p.grad is None for p in model.parameters())}")
    print(f"sigmoids starve the first layer: {share[nn.Sigmoid] < 0.01 * share[nn.ReLU]}")


if __name__ == "__main__":
    main()
