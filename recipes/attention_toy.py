"""Attention looks things up: a list of pairs (key, value), a key, and the question which value belongs to it.

A network that sees the mean of the pairs cannot tell which value came with which key. Attention compares the question
with every pair and takes the value of the one that fits (Vaswani et al. 2017, "Attention Is All You Need"): after
training, nearly all its weight lies on the right pair, which `need_weights` lets us see.

    python recipes/attention_toy.py

Expected output (a few seconds; the last digits depend on the machine):

    mean of the pairs  accuracy 0.3610
    attention          accuracy 1.0000  weight on the right pair 0.9877
    attention finds the pair: True
"""

import nanotorch as torch
from nanotorch import nn

KEYS, VALUES, PAIRS, SIZE = 12, 8, 6, 32


def questions(count: int):
    """Lists of pairs with different keys (count, PAIRS), which pair is asked for (count,), and its key and value."""
    keys = torch.rand(count, KEYS).argsort(1)[:, :PAIRS]
    values = torch.randint(VALUES, (count, PAIRS))
    asked = torch.randint(PAIRS, (count, 1))
    return keys, values, asked, keys.gather(1, asked), values.gather(1, asked).squeeze(1)


class Reader(nn.Module):
    """Embeds pairs and question, gathers what the pairs say, and answers from that and the question."""

    def __init__(self, attend: bool) -> None:
        super().__init__()
        self.keys = nn.Embedding(KEYS, SIZE)
        self.values = nn.Embedding(VALUES, SIZE)
        self.attention = nn.MultiheadAttention(SIZE, num_heads=1, batch_first=True) if attend else None
        self.answer = nn.Sequential(nn.Linear(2 * SIZE, 64), nn.ReLU(), nn.Linear(64, VALUES))

    def forward(self, keys, values, key):
        """The scores of all values (count, VALUES), and the attention weights (count, 1, PAIRS)."""
        pairs, question = self.keys(keys) + self.values(values), self.keys(key)
        if self.attention is None:
            found, weights = pairs.mean(1, keepdim=True), None
        else:
            found, weights = self.attention(question, pairs, pairs)
        return self.answer(torch.cat([found, question], -1).squeeze(1)), weights


def train(attend: bool, steps: int = 400) -> nn.Module:
    """Adam on new questions at every step."""
    torch.manual_seed(0)
    model = Reader(attend)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        keys, values, _, key, target = questions(64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(keys, values, key)[0], target).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


def main() -> None:
    """Train both ways of reading, and ask a thousand new questions."""
    accuracies = []
    for name, attend in (("mean of the pairs", False), ("attention", True)):
        model = train(attend)
        keys, values, asked, key, target = questions(1000)
        with torch.no_grad():
            scores, weights = model(keys, values, key)
        accuracies.append((scores.argmax(1) == target).float().mean().item())
        line = f"{name:17}  accuracy {accuracies[-1]:.4f}"
        if weights is not None:
            line += f"  weight on the right pair {weights.squeeze(1).gather(1, asked).mean().item():.4f}"
        print(line)
    print(f"attention finds the pair: {accuracies[1] > accuracies[0] + 0.4}")


if __name__ == "__main__":
    main()
