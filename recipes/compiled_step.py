"""A training step as one program: what it does with arrays, and what that costs.

`torch.compile(step)` records the ordinary step and runs it as a list of array statements from then on, bit for bit as
before. `compiled.code` is that list, `compiled.explain()` says where operations and bytes go: in this small network
the matrix products do nearly all of the arithmetic, and everything else moves more bytes than they do.

    python recipes/compiled_step.py

Expected output (a second):

    # takes: x (64, 64), y (64,) int64
    # lives on: model_0_weight (32, 64), model_0_bias (32,), model_2_weight (10,
    #   32), model_2_bias (10,)
    # holds while: not nesterov, not maximize, not first, not weight_decay
    def step(x, y, *, lr):
        # -------------------------------- checks --------------------------------
        # compiled_step.py:106: loss = nn.functional.cross_entropy(model(x), y)
        assert xp.all_in_range(y, 10)
        # ------------------------------- forward --------------------------------
        # compiled_step.py:106: loss = nn.functional.cross_entropy(model(x), y)
        matmul = xp.matmul(x, model_0_weight.T)                   # (64, 32)
        linear = matmul + model_0_bias                            # (64, 32)
        relu = xp.maximum(linear, 0)                              # (64, 32)
        matmul_2 = xp.matmul(relu, model_2_weight.T)              # (64, 10)
        linear_2 = matmul_2 + model_2_bias                        # (64, 10)
        amax = xp.amax(linear_2, axis=1, keepdims=True)           # (64, 1)
        subtract = linear_2 - amax                                # (64, 10)
        exp = xp.exp(subtract)                                    # (64, 10)
        row_sums = xp.row_sums(exp)                               # (64, 1)
        one_hot = xp.one_hot(y, 10, dtype('float32'))             # (64, 10)
        log = xp.log(row_sums)                                    # (64, 1)
        pick = xp.pick(subtract, y)                               # (64,)
        subtract_2 = log.reshape(64) - pick                       # (64,)
        divide = exp / row_sums                                   # (64, 10)
        column_sums = xp.column_sums(subtract_2)                  # ()
        cross_entropy = column_sums / 64                          # ()
        cross_entropy_2 = divide - one_hot                        # (64, 10)
        # ------------------------------- backward -------------------------------
        # compiled_step.py:106: loss = nn.functional.cross_entropy(model(x), y)
        grad_cross_entropy = cross_entropy_2 * 0.015625           # (64, 10)
        grad_linear = xp.matmul(grad_cross_entropy, model_2_weight)  # (64, 32)
        grad = xp.empty((2410,), dtype('float32'))
        grad[2080:2400].reshape(10, 32)[...] = xp.matmul(grad_cross_entropy.T, relu)
                                                                  # (10, 32)
        grad[2400:2410] = xp.column_sums(grad_cross_entropy)      # (10,)
        less_equal = relu <= 0                                    # (64, 32) bool
        grad_relu = xp.zero_where(grad_linear, less_equal)        # (64, 32)
        grad[0:2048].reshape(32, 64)[...] = xp.matmul(grad_relu.T, x)  # (32, 64)
        grad[2048:2080] = xp.column_sums(grad_relu)               # (32,)
        # -------------------------------- update --------------------------------
        # compiled_step.py:108: optimizer.step()
        flat = xp.empty((2410,), dtype('float32'))
        flat[0:2048].reshape(32, 64)[...] = model_0_weight        # (32, 64)
        flat[2048:2080] = model_0_bias                            # (32,)
        flat[2080:2400].reshape(10, 32)[...] = model_2_weight     # (10, 32)
        flat[2400:2410] = model_2_bias                            # (10,)
        multiply = lr * grad                                      # (2410,)
        flat -= multiply                                          # (2410,)
        model_0_weight[...] = flat[0:2048].reshape(32, 64)        # (32, 64)
        model_0_bias[...] = flat[2048:2080]                       # (32,)
        model_2_weight[...] = flat[2080:2400].reshape(10, 32)     # (10, 32)
        model_2_bias[...] = flat[2400:2410]                       # (10,)
        return cross_entropy                                      # ()
    program for  x (64, 64) float32, y (64,) int64
    recorded     as the first one
    statements   43 recorded, 3 the same in every step, 4 copies, 36 left
    run by       numpy: 39 calls, 11 results over an operand
    memory       50.6 kB of results, set apart once; eager allocates 84.1 kB a call
    holds for    the memory of 4 tensors; what the function finds around it;
                 gradients of 4 tensors to begin with; not nesterov; not maximize;
                 not first; not weight_decay
                                      statements   operations       bytes  op/byte
    checks
      cross_entropy                            1            0         512     0.00
    forward
      linear                                   4      305,792      66,472     4.60
      relu                                     1        2,048      16,384     0.12
      cross_entropy                           12        4,033      37,132     0.11
    backward
      cross_entropy                            1          640       5,124     0.12
      linear                                   5      346,752      67,752     5.12
      relu                                     2        4,096      28,672     0.14
    update
      memory                                   8            0      38,560     0.00
      sgd                                      2        4,820      38,560     0.12
    in all                                    36      668,181     299,168     2.23
    loss 2.317 to 1.038, the same without a program: True
"""

from sklearn.datasets import load_digits

import nanotorch as torch
from nanotorch import nn

data = load_digits()
images = torch.tensor(data.data / 16, dtype=torch.float32)
labels = torch.tensor(data.target)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)


def step(x, y):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


compiled = torch.compile(step, backend="numpy")
start = {name: value.clone() for name, value in model.state_dict().items()}
losses = []
for train in (compiled, step):
    model.load_state_dict(start)
    losses.append([train(images[k : k + 64], labels[k : k + 64]).item() for k in range(0, 1792, 64)])
print(f"{compiled.code}{compiled.explain()}".replace("\n\n", "\n"))
print(f"loss {losses[0][0]:.3f} to {losses[0][-1]:.3f}, the same without a program: {losses[0] == losses[1]}")
