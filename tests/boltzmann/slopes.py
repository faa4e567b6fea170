"""Derivatives by every parameter, by central differences."""

import numpy as np

from .machines import host


def slopes(objective, parameters, step=1e-5):
    """The derivatives of objective(parameters) by the elements of its host arrays, by name."""
    found = {}
    for name, x in parameters.items():
        found[name] = np.empty(x.shape)
        for i in np.ndindex(x.shape):
            ends = []
            for change in (step, -step):
                moved = x.copy()
                moved[i] += change
                ends.append(float(objective({**parameters, name: moved})))
            found[name][i] = (ends[0] - ends[1]) / (2 * step)
    return found


def slopes_of_model(model, value, step=1e-5):
    """The derivatives of value() by the parameters of a model, which is left as it was."""
    start = {name: host(p).copy() for name, p in model.parameters().items()}

    def at(parameters):
        model.set_parameters(parameters)
        return value()

    found = slopes(at, start, step)
    model.set_parameters(start)
    return found
