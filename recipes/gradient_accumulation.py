"""Gradient accumulation by hand: the step of a large batch, in the memory of a small one.

`backward()` adds to `.grad` and never overwrites it. So a batch that is too large for the memory can be
taken in pieces: zero the gradients once, call backward once per piece, step once per batch. Each graph is
freed by its own backward, so only one piece is in memory at a time. Divide each piece's *sum* of losses by
the rows of the whole batch; the mean of the pieces' means is wrong as soon as the pieces differ in size.

    python recipes/gradient_accumulation.py

Expected output (a few seconds; the last digits depend on the machine):

    batches of 256 rows in pieces of 64, the last batch of an epoch is 157 rows in pieces of 64, 64 and 29
    epoch  5  loss 0.9584  test accuracy 0.8667
    epoch 10  loss 0.2814  test accuracy 0.9361
    epoch 15  loss 0.1612  test accuracy 0.9556
    epoch 20  loss 0.1171  test accuracy 0.9639
    peak memory of a step: 0.18 MB in pieces of 64 rows, 0.57 MB in one piece
    test accuracy above 0.95: True
"""

import tracemalloc

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nanotorch as torch
from nanotorch import nn

BATCH = 256  # rows that one optimizer step is computed from
PIECE = 64  # rows that fit into memory


def main() -> None:
    """Train on digits with 256 rows per step and 64 rows per backward."""
    torch.manual_seed(0)
    images, classes = load_digits(return_X_y=True)
    split = train_test_split(images / 16, classes, test_size=0.2, stratify=classes, random_state=0)
    train_features, test_features = (torch.tensor(part, dtype=torch.float32) for part in split[:2])
    train_labels, test_labels = (torch.tensor(part) for part in split[2:])

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    sum_of_losses = nn.CrossEntropyLoss(reduction="sum")

    last = len(train_labels) % BATCH
    print(
        f"batches of {BATCH} rows in pieces of {PIECE}, the last batch of an epoch is {last} rows "
        f"in pieces of {PIECE}, {PIECE} and {last % PIECE}"
    )
    for epoch in range(1, 21):
        total = 0.0
        for batch in torch.randperm(len(train_labels)).split(BATCH):
            optimizer.zero_grad()  # once per batch, not once per piece
            for rows in batch.split(PIECE):
                loss = sum_of_losses(model(train_features[rows]), train_labels[rows]) / len(batch)
                loss.backward()  # adds this piece's share to every .grad, then frees its graph
                total += loss.item() * len(batch)
            optimizer.step()  # once per batch, also for the last, smaller one
        if epoch % 5 == 0:
            with torch.no_grad():
                accuracy = (model(test_features).argmax(1) == test_labels).float().mean().item()
            print(f"epoch {epoch:2}  loss {total / len(train_labels):.4f}  test accuracy {accuracy:.4f}")

    peaks = []
    for size in (PIECE, BATCH):  # what one batch takes above what is there before it
        optimizer.zero_grad(set_to_none=False)
        tracemalloc.start()
        for rows in torch.arange(BATCH).split(size):
            (sum_of_losses(model(train_features[rows]), train_labels[rows]) / BATCH).backward()
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    print(f"peak memory of a step: {peaks[0]:.2f} MB in pieces of {PIECE} rows, {peaks[1]:.2f} MB in one piece")
    print(f"test accuracy above 0.95: {accuracy > 0.95}")


if __name__ == "__main__":
    main()
