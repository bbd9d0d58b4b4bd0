"""python -m benchmarks.jobs.pytorch DATA EPOCHS BATCH RATE FOLDER: train with PyTorch, keep the best epoch, test it."""

from __future__ import annotations

import copy
import sys

import torch
from torch import nn

from benchmarks.jobs.data import parts


def main() -> None:
    """Train, and print the accuracy on the test part."""
    name, epochs, batch, rate, folder = sys.argv[1:]
    torch.manual_seed(0)
    tensors = [torch.from_numpy(part) for part in parts(name)]
    x, y, x_validation, y_validation, x_test, y_test = tensors
    rows = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), int(batch), shuffle=True)
    model = nn.Sequential(
        nn.Linear(x.shape[1], 128), nn.GELU(), nn.Dropout(0.2),
        nn.Linear(128, 64), nn.GELU(), nn.Dropout(0.2),
        nn.Linear(64, int(y.max()) + 1),
    )  # fmt: skip
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=float(rate)), nn.CrossEntropyLoss()
    best, weights = -1.0, model.state_dict()
    for epoch in range(int(epochs)):
        model.train()
        for features, labels in rows:
            optimizer.zero_grad()
            loss = criterion(model(features), labels)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            outputs = model(x_validation)
            score = (outputs.argmax(1) == y_validation).float().mean().item()
        print(f"epoch {epoch + 1}  validation loss {criterion(outputs, y_validation).item():.4f}  accuracy {score:.4f}")
        if score > best:
            best, weights = score, copy.deepcopy(model.state_dict())
            torch.save(weights, f"{folder}/best.pt")
    model.load_state_dict(weights)
    with torch.no_grad():
        print(f"test accuracy {(model(x_test).argmax(1) == y_test).float().mean().item():.4f}")


if __name__ == "__main__":
    main()
