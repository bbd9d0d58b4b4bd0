"""A classifier from scratch: tensors, autograd and nothing else. No nn, no optim, no DataLoader.

Everything that those packages do is written out: the initial weights, the affine maps, the cross-entropy, the
mini-batches, and gradient descent with momentum inside `no_grad`.

    python recipes/mlp_from_scratch.py

Expected output (a few seconds; the last digits depend on the machine):

    epoch  1  loss 1.3676  test accuracy 0.8389
    epoch  5  loss 0.1387  test accuracy 0.9472
    epoch 10  loss 0.0846  test accuracy 0.9722
    epoch 15  loss 0.0563  test accuracy 0.9667
    epoch 20  loss 0.0403  test accuracy 0.9750
    test accuracy above 0.95: True
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nanotorch as torch


def affine_parameters(in_features: int, out_features: int, generator: torch.Generator) -> list[torch.Tensor]:
    """A weight of variance 2 / in_features, which ReLU layers preserve (He et al. 2015), and a zero bias."""
    weight = torch.randn(in_features, out_features, generator=generator) * (2 / in_features) ** 0.5
    return [weight.requires_grad_(), torch.zeros(out_features, requires_grad=True)]


def logits_of(features: torch.Tensor, parameters: list[torch.Tensor]) -> torch.Tensor:
    """Two layers: an affine map, the positive part, another affine map."""
    weight1, bias1, weight2, bias2 = parameters
    hidden = (features @ weight1 + bias1).clamp(min=0)
    return hidden @ weight2 + bias2


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """-log softmax(logits)[label], averaged; the largest logit is taken out, so that exp cannot overflow."""
    shifted = logits - logits.amax(1, keepdim=True)
    log_probabilities = shifted - shifted.exp().sum(1, keepdim=True).log()
    return -log_probabilities[torch.arange(len(labels)), labels].mean()


def main() -> None:
    """Train on digits, print the test accuracy."""
    images, classes = load_digits(return_X_y=True)
    split = train_test_split(images / 16, classes, test_size=0.2, stratify=classes, random_state=0)
    train_features, test_features = (torch.tensor(part, dtype=torch.float32) for part in split[:2])
    train_labels, test_labels = (torch.tensor(part) for part in split[2:])

    generator = torch.Generator().manual_seed(0)
    parameters = [*affine_parameters(64, 64, generator), *affine_parameters(64, 10, generator)]
    velocities = [torch.zeros_like(parameter) for parameter in parameters]

    for epoch in range(1, 21):
        total = 0.0
        for rows in torch.randperm(len(train_labels), generator=generator).split(32):
            loss = cross_entropy(logits_of(train_features[rows], parameters), train_labels[rows])
            loss.backward()
            total += loss.item() * len(rows)
            with torch.no_grad():  # an update is not part of the function that is differentiated
                for parameter, velocity in zip(parameters, velocities, strict=True):
                    velocity.mul_(0.9).add_(parameter.grad)
                    parameter -= 0.03 * velocity
                    parameter.grad = None  # otherwise the next backward would add to it
        with torch.no_grad():
            predicted = logits_of(test_features, parameters).argmax(1)
            accuracy = (predicted == test_labels).float().mean().item()
        if epoch == 1 or epoch % 5 == 0:
            print(f"epoch {epoch:2}  loss {total / len(train_labels):.4f}  test accuracy {accuracy:.4f}")
    print(f"test accuracy above 0.95: {accuracy > 0.95}")


if __name__ == "__main__":
    main()
