"""A gated recurrent unit that reads the MNIST digits row by row, top to bottom.

    python examples/gru_sequence.py

Each image is a sequence of 28 rows of 28 pixels; the digit is told from the state after the last
row. All 28 steps are one operation of the graph.

10,000 of the 60,000 images, three passes: a few seconds on one core. Over five seeds 92.9 to 94.3 %
of the test images are told right.
`main(device="cuda")` runs the same lines on a GPU.
"""

from functools import partial

import numpy as np

import gpugrad as gg
from gpugrad.boltzmann.datasets import mnist
from gpugrad.gradients import adam_update, execute_with_gradients
from gpugrad.nnet import glorot_uniform, gru, softmax_crossentropy

BATCH = 100
RATE = 0.005
STATE = 48


def new_weights(seed, device):
    rng = np.random.default_rng(seed)
    options = {"rng": rng, "device": device}
    w = {}
    for gate in "zrh":
        w["U" + gate] = glorot_uniform(28, STATE, **options)
        w["W" + gate] = glorot_uniform(STATE, STATE, **options)
        w["b" + gate] = gg.zeros((STATE,), dtype=np.float32, device=device)
    w["linear"] = glorot_uniform(STATE, 10, **options)
    w["bias"] = gg.zeros((10,), dtype=np.float32, device=device)
    return w


def scores(w, x):
    """Rows of N images (28, N, 28) -> scores of the ten digits (N, 10)."""
    states = gru(x, *(w[name + gate] for gate in "zrh" for name in "UWb"))
    return states[-1] @ w["linear"] + w["bias"]


def cost(w, x, digits):
    return softmax_crossentropy(scores(w, x), digits)


def rows_of(images):
    """(N, 784) -> (28, N, 28)."""
    return images.reshape(-1, 28, 28).swapaxes(0, 1)


def main(images=10_000, tests=10_000, epochs=3, seed=0, device="cpu"):
    x, digits = mnist("train", labels=True, device=device)
    test_x, test_digits = mnist("test", labels=True, device=device)

    rng = np.random.default_rng(seed)
    w = new_weights(seed, device)
    m = v = {name: gg.zeros_like(a) for name, a in w.items()}
    step = 0
    for epoch in range(epochs):
        costs = []
        for rows in rng.permutation(images).reshape(-1, BATCH):
            batch = partial(cost, x=rows_of(x[rows]), digits=digits[rows])
            value, gradients = execute_with_gradients(batch, w)
            step += 1
            w, m, v = adam_update(w, gradients, RATE, m, v, step)
            costs.append(float(value))
        with gg.no_autodiff:
            found = scores(w, rows_of(test_x[:tests])).data.argmax(axis=1)
        share = float((found == test_digits[:tests]).mean())
        print(f"epoch {epoch + 1}: cost {np.mean(costs):.3f}, {share:.1%} of the test images")
    return share


if __name__ == "__main__":
    main()
