"""Data whose distribution is known: four throws of one of two coins.

Heads come in 80 of 100 throws of the one and in 20 of the other, which is what a machine with one
hidden unit can hold; units that are independent of each other stay 0.3 nats away.
"""

import itertools

import numpy as np


def bits(n=4):
    """All states of n units with the values 0 and 1."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


def two_coins(unit="bernoulli"):
    """All states of four units, and their probabilities when one of the coins is thrown."""
    heads = bits().sum(axis=1)
    p = (0.8**heads * 0.2 ** (4 - heads) + 0.2**heads * 0.8 ** (4 - heads)) / 2
    return (2 * bits() - 1 if unit == "ising" else bits()), p


def coin_data(copies=1000, unit="bernoulli"):
    """Each state as often as it comes in so many throws."""
    states, p = two_coins(unit)
    return np.repeat(states, np.round(copies * p).astype(int), axis=0)
