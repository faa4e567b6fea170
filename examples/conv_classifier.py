"""A small convolutional classifier of the MNIST digits that come with the package.

    python examples/conv_classifier.py

Two layers of filters, each followed by relu and by the maximum over windows, and a linear layer:

    28x28 -> 8 filters 5x5 -> 24x24 -> 12x12 -> 16 filters 5x5 -> 8x8 -> 4x4 -> 10 scores

10,000 of the 60,000 images, two passes: a few seconds on one core. Over five seeds 94.0 to 95.4 %
of the test images are told right.
`main(device="cuda")` runs the same lines on a GPU.
"""

from functools import partial

import numpy as np

import gpugrad as gg
from gpugrad.boltzmann.datasets import mnist
from gpugrad.gradients import adam_update, execute_with_gradients
from gpugrad.nnet import conv_nd, glorot_uniform, he_normal, max_pool, relu, softmax_crossentropy

BATCH = 100
RATE = 0.003


def new_weights(seed, device):
    rng = np.random.default_rng(seed)
    return {
        "first": he_normal(8, 1, 5, 5, rng=rng, device=device),
        "second": he_normal(16, 8, 5, 5, rng=rng, device=device),
        "linear": glorot_uniform(16 * 4 * 4, 10, rng=rng, device=device),
        "bias": gg.zeros((10,), dtype=np.float32, device=device),
    }


def scores(w, x):
    """Images (N, 1, 28, 28) -> scores of the ten digits (N, 10)."""
    for filters in (w["first"], w["second"]):
        x = max_pool(relu(conv_nd(x, filters, stride=1)), (2, 2), 2)
    return x.reshape(len(x), -1) @ w["linear"] + w["bias"]


def cost(w, x, digits):
    return softmax_crossentropy(scores(w, x), digits)


def accuracy(w, x, digits):
    right = 0
    with gg.no_autodiff:
        for i in range(0, len(x), 1000):
            found = scores(w, x[i : i + 1000]).data.argmax(axis=1)
            right += int((found == digits[i : i + 1000]).sum())
    return right / len(x)


def main(images=10_000, tests=10_000, epochs=2, seed=0, device="cpu"):
    x, digits = mnist("train", labels=True, device=device)
    x, digits = x[:images].reshape(-1, 1, 28, 28), digits[:images]
    test_x, test_digits = mnist("test", labels=True, device=device)
    test_x, test_digits = test_x[:tests].reshape(-1, 1, 28, 28), test_digits[:tests]

    rng = np.random.default_rng(seed)
    w = new_weights(seed, device)
    m = v = {name: gg.zeros_like(a) for name, a in w.items()}
    step = 0
    for epoch in range(epochs):
        costs = []
        for rows in rng.permutation(images).reshape(-1, BATCH):
            batch = partial(cost, x=x[rows], digits=digits[rows])
            value, gradients = execute_with_gradients(batch, w)
            step += 1
            w, m, v = adam_update(w, gradients, RATE, m, v, step)
            costs.append(float(value))
        share = accuracy(w, test_x, test_digits)
        print(f"epoch {epoch + 1}: cost {np.mean(costs):.3f}, {share:.1%} of the test images")
    return share


if __name__ == "__main__":
    main()
