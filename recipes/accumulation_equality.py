"""Gradient accumulation equals the large batch: both are trained, and both are printed.

Three runs from the same weights over the same rows in float64: (1) batches of 100; (2) the same batches in
pieces of 32, 32, 32 and 4, each piece's sum of losses divided by the rows of the batch; (3) the usual
mistake, the mean of the pieces' means, which counts a row of the small piece eight times as much as others.

    python recipes/accumulation_equality.py

Expected output (seconds; the last digits depend on the machine):

    the first three of 275 parameters after 40 steps:
      large batch    +0.689153918589  +0.284745940502  +0.243884796546
      in pieces      +0.689153918589  +0.284745940502  +0.243884796546
      mean of means  +0.674481593451  +0.334792576739  +0.284614183290
    largest difference of a parameter from the large batch:
      in pieces      4.4e-16
      mean of means  1.0e-01
    in pieces equal to 1e-12: True
"""

from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

import nanotorch as torch
from nanotorch import nn

BATCH, PIECE, STEPS = 100, 32, 40


def train(features: torch.Tensor, labels: torch.Tensor, way: str) -> torch.Tensor:
    """Train for STEPS steps and return all parameters as one vector."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        batch = torch.randperm(len(labels), generator=generator)[:BATCH]
        optimizer.zero_grad()
        if way == "large batch":
            nn.functional.cross_entropy(model(features[batch]), labels[batch]).backward()
        else:
            pieces = batch.split(PIECE)
            for rows in pieces:
                logits = model(features[rows])
                if way == "in pieces":
                    loss = nn.functional.cross_entropy(logits, labels[rows], reduction="sum") / len(batch)
                else:
                    loss = nn.functional.cross_entropy(logits, labels[rows]) / len(pieces)
                loss.backward()
        optimizer.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def main() -> None:
    """Train the same model in three ways and compare the parameters."""
    measurements, classes = load_wine(return_X_y=True)
    features = torch.tensor(StandardScaler().fit_transform(measurements))
    labels = torch.tensor(classes)
    results = {way: train(features, labels, way) for way in ("large batch", "in pieces", "mean of means")}

    print(f"the first three of {results['large batch'].numel()} parameters after {STEPS} steps:")
    for way, parameters in results.items():
        print(f"  {way:13}" + "".join(f"  {value:+.12f}" for value in parameters[:3].tolist()))
    print("largest difference of a parameter from the large batch:")
    differences = {way: (parameters - results["large batch"]).abs().max().item() for way, parameters in results.items()}
    for way in ("in pieces", "mean of means"):
        print(f"  {way:13}  {differences[way]:.1e}")
    print(f"in pieces equal to 1e-12: {differences['in pieces'] < 1e-12}")


if __name__ == "__main__":
    main()
