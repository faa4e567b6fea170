"""Operations as users of MyGrad's base class write them."""

from gpugrad.operation_base import Operation


class Multiply(Operation):
    def __call__(self, x, y, out=None):
        self.variables = (x, y)
        product = x.data * y.data
        if out is None:
            return product
        out[...] = product
        return out

    def backward_var(self, grad, index, **kwargs):
        return grad * self.variables[1 - index].data


class Reversed(Operation):
    can_return_view = True

    def __call__(self, x):
        self.variables = (x,)
        return x.data[::-1]

    def backward_var(self, grad, index, **kwargs):
        return grad[::-1]


def with_backward(backward_var):
    """`Multiply` with another derivative."""
    return type("Wrong", (Multiply,), {"backward_var": backward_var})
