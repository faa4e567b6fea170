"""The door for operations of one's own: a function of arrays, and its derivative beside it.

>>> import numpy as np
>>> import gpugrad as gg
>>> @gg.primitive
... def cube(x):
...     return x * x * x
>>> cube.defvjp(lambda g, y, x: 3 * g * gg.square(x))
>>> x = gg.tensor([1.0, 2.0])
>>> cube(x).sum().backward()
>>> x.grad
array([ 3., 12.])
>>> gg.grad(gg.grad(cube))(2.0)
Tensor(12.)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import numpy as np

from gpugrad.apply import apply
from gpugrad.graph.op import Op
from gpugrad.state import no_autodiff
from gpugrad.tensor import Tensor

__all__ = ["Primitive", "primitive"]

Rule = Callable[..., Any]


class _Rules:
    """The user's rules, each between two checks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.of_operand: dict[int, Rule | None] = {}
        self.of_any: Rule | None = None

    def stops(self, i: int) -> bool:
        """Whether operand i was declared to take no gradient."""
        return i in self.of_operand and self.of_operand[i] is None

    def of(self, i: int) -> Rule:
        """What the sweep calls for operand i."""

        def rule(xp: Any, g: Any, y: Any, *operands: Any, **params: Any) -> Any:
            own = self.of_operand.get(i)
            if own is not None:
                found = self._called(i, own, (g, y, *operands), params)
            elif self.of_any is not None:
                found = self._called(i, self.of_any, (i, g, y, *operands), params)
            else:
                raise NotImplementedError(
                    f"{self.name}: operand {i} takes a gradient, but no rule for it was given; "
                    f"{self.name}.defvjp(rule, argnums={i}) gives one"
                )
            return self._checked(xp, i, found, operands[i], isinstance(g, Tensor))

        return rule

    def _called(self, i: int, rule: Rule, arguments: tuple, params: dict) -> Any:
        try:
            if any(isinstance(a, Tensor) for a in arguments):
                return rule(*arguments, **params)
            # swept on raw arrays: what the rule calls of this library must not record a graph
            with no_autodiff:
                return rule(*map(_read_only, arguments), **params)
        except TypeError:
            mismatch = _mismatch(rule, arguments, params)
            if mismatch is None:
                raise
            came = [f"{len(arguments)} positional arguments", *params]
            first = "argnum, g, y" if rule is self.of_any else "g, y"
            raise TypeError(
                f"{self.name}: the rule of operand {i} cannot take {' and '.join(came)} "
                f"({mismatch}), expected rule({first}, *operands, **params)"
            ) from None

    def _checked(self, xp: Any, i: int, found: Any, operand: Any, recorded: bool) -> Any:
        if not hasattr(found, "dtype") and not isinstance(found, int | float):
            raise TypeError(
                f"{self.name}: the rule of operand {i} returned {type(found).__name__}, expected "
                f"one array of shape {operand.shape}"
            )
        dtype = getattr(found, "dtype", None)
        if dtype is not None and dtype.kind not in "fiub":
            raise TypeError(
                f"{self.name}: the rule of operand {i} returned dtype {dtype}, expected real "
                "numbers"
            )
        if recorded:
            found = found if isinstance(found, Tensor) else Tensor(found, constant=True, copy=False)
        else:
            found = xp.asarray(found._vertex.data if isinstance(found, Tensor) else found)
        if not _sums_to(found.shape, operand.shape):
            raise ValueError(
                f"{self.name}: the rule of operand {i} returned shape {found.shape}, expected "
                f"{operand.shape} or what {operand.shape} broadcasts to"
            )
        return found


def _mismatch(rule: Rule, arguments: tuple, params: dict) -> str | None:
    """What keeps `rule` from being called so, if it is that."""
    try:
        inspect.signature(rule).bind(*arguments, **params)
    except TypeError as error:
        return str(error)
    except ValueError:  # written in C: it has no signature
        pass
    return None


def _read_only(a: Any) -> Any:
    """`a`, so that a write raises: it is the memory of a tensor, or of other cotangents."""
    if type(a) is not np.ndarray:
        return a
    view = a.view()
    view.setflags(write=False)
    return view


def _sums_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether `target` broadcasts to this shape, so that the sum back to it is meant."""
    if len(shape) < len(target):
        return False
    return all(m in (n, 1) for n, m in zip(reversed(shape), reversed(target)))


class Primitive:
    """A differentiable operation made from a function of arrays: see `primitive`."""

    __name__: str

    def __init__(self, f: Callable[..., Any]) -> None:
        update_wrapper(self, f)
        name = getattr(f, "__name__", type(f).__name__)
        self._f = f
        self._rules = _Rules(name)
        self._op = Op(name, self._forward, variadic=self._rules.of)

    def _forward(self, xp: Any, *operands: Any, **params: Any) -> Any:
        operands = tuple(map(_read_only, operands))
        y = self._f(*operands, **params)
        if isinstance(y, Tensor):
            raise TypeError(
                f"{self.__name__}: the function returned a Tensor, expected an array; what is made "
                "of gpugrad's own functions has its derivative already"
            )
        if not hasattr(y, "dtype") and not isinstance(y, int | float):
            raise TypeError(
                f"{self.__name__}: the function returned {type(y).__name__}, expected one array"
            )
        y = xp.asarray(y)
        if y.dtype.kind not in "fiub":
            raise TypeError(
                f"{self.__name__}: the function returned dtype {y.dtype}, expected real numbers"
            )
        # the result of an operation is new memory, also where the function gives back its operand
        return xp.array(y) if y.base is not None or any(y is a for a in operands) else y

    def __call__(self, *operands: Any, **params: Any) -> Tensor:
        if any(isinstance(p, Tensor) for p in params.values()):
            operands, params = self._by_position(operands, params)
        stops = self._rules.stops
        inputs = [
            a.data if isinstance(a, Tensor) and stops(i) else a for i, a in enumerate(operands)
        ]
        y = apply(self._op, inputs, params)
        if y.dtype.kind != "f":
            y._vertex.constant = True
        return y

    def _by_position(self, operands: tuple, params: dict) -> tuple[tuple, dict]:
        """The call with the operands that came by keyword in their places."""
        bound = inspect.signature(self._f).bind(*operands, **params)
        for name, value in bound.kwargs.items():
            if isinstance(value, Tensor):
                raise TypeError(
                    f"{self.__name__}: got a Tensor for the keyword parameter {name!r}, expected "
                    "it among the positional operands, which gradients go to"
                )
        return bound.args, bound.kwargs

    def __repr__(self) -> str:
        return f"<gpugrad primitive {self.__name__!r}>"

    def defvjp(self, *rules: Rule | None, argnums: int | Sequence[int] | None = None) -> None:
        """Declare the derivative: one rule for each operand.

        Parameters
        ----------
        *rules : callable or None
            ``rule(g, y, *operands, **params)`` returns the cotangent of its operand: `g` is the
            cotangent of the result, of its shape, and `y` the result. Write it with operators and
            with functions of gpugrad (or of NumPy): ``backward()`` calls it with arrays, and
            `grad` with tensors, which is what gives every further order. It need not undo
            broadcasting or casting: what comes back has the operand's shape or one that it
            broadcasts to, is summed to the former and cast to the operand's dtype. None: the
            operand takes no gradient.
        argnums : int or sequence of int, optional
            Which operands the rules are for; by default the first, the second...

        Raises
        ------
        TypeError
            A rule is not callable, or there are not as many rules as `argnums`. From the sweep:
            a rule takes other arguments, or returns something else than an array of real numbers.
        ValueError
            From the sweep: a rule returns another shape, or writes into an array it was given.

        Examples
        --------
        >>> import numpy as np
        >>> import gpugrad as gg
        >>> @gg.primitive
        ... def scaled_power(x, n, *, scale=1.0):
        ...     return scale * x**n
        >>> scaled_power.defvjp(
        ...     lambda g, y, x, n, scale=1.0: g * scale * n * x ** (n - 1),
        ...     None,
        ... )
        >>> gg.grad(scaled_power)(3.0, 2, scale=10.0)
        Tensor(60.)
        """
        if argnums is None:
            places: Sequence[int] = range(len(rules))
        else:
            places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        if len(places) != len(rules):
            raise TypeError(
                f"{self.__name__}.defvjp: got {len(rules)} rules for {len(places)} argnums"
            )
        for rule in rules:
            if rule is not None and not callable(rule):
                raise TypeError(f"{self.__name__}.defvjp: got {rule!r}, expected a function")
        self._rules.of_operand.update(zip(places, rules))

    def defvjp_argnum(self, rule: Rule) -> None:
        """Declare one rule for all operands, however many come.

        Parameters
        ----------
        rule : callable
            ``rule(argnum, g, y, *operands, **params)`` returns the cotangent of the operand of that
            number. What `defvjp` says of an operand goes before.

        Examples
        --------
        >>> import gpugrad as gg
        >>> @gg.primitive
        ... def total(*xs):
        ...     return sum(xs)
        >>> total.defvjp_argnum(lambda i, g, y, *xs: g)
        >>> gg.grad(total, (0, 2))(1.0, 2.0, 3.0)
        (Tensor(1.), Tensor(1.))
        """
        if not callable(rule):
            raise TypeError(f"{self.__name__}.defvjp_argnum: got {rule!r}, expected a function")
        self._rules.of_any = rule


def primitive(f: Callable[..., Any]) -> Primitive:
    """Make a differentiable operation of a function of arrays; a decorator.

    (`gpugrad.primitives` is another thing: the array functions that have CUDA kernels.)

    Parameters
    ----------
    f : callable
        ``f(*operands, **params)`` takes arrays and numbers and returns one new array. It must not
        write into its operands: on the host they are read-only, so that a write raises. It gets
        CuPy arrays, which cannot be protected, where the operands lie on a GPU: NumPy's ufuncs
        accept them, and ``gpugrad.get_array_module(x)`` is the module to use for the rest.
        Positional arguments are operands, to which gradients go; keyword arguments are parameters.

    Returns
    -------
    Primitive
        Takes tensors, arrays and numbers, returns a tensor. `Primitive.defvjp` declares its
        derivative; `gpugrad.testing.check_grads` tells whether it is right.

    Raises
    ------
    TypeError
        `f` is not callable.
    ValueError
        From the call: `f` writes into an operand.
    NotImplementedError
        From ``backward()`` or `grad`: an operand takes a gradient, but no rule was given for it.

    Examples
    --------
    >>> import numpy as np
    >>> import gpugrad as gg
    >>> @gg.primitive
    ... def sinc_squared(x):
    ...     return np.sinc(x) ** 2
    >>> sinc_squared(gg.tensor([0.0, 1.0])).data.round(15)
    array([1., 0.])
    """
    if not callable(f):
        raise TypeError(f"primitive: got {f!r}, expected a function of arrays")
    return Primitive(f)
