"""Drawing the lines of a program: each is Python text in which the library is `m`.

    t0, t1, ...   tensors
    a0, a1, ...   arrays that the user holds
    answer        the last result that is neither

`scalar`, `masked` and `astype` are helpers that enact a deliberate difference: for gpugrad they do
nothing (:mod:`tests.parity.differential.differences`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.parity.differential import calls
from tests.parity.differential.draw import DTYPES, SHAPES, WRONG, Draw, is_broadcast
from tests.parity.differential.mistakes import MISTAKES

__all__ = ["LINES", "Line", "draw_line"]

NAMES = re.compile(r"\b[ta]\d+\b")


class Line(NamedTuple):
    """A line, and what is said of it when it is counted.

    Attributes
    ----------
    text : str
        The statement without its block.
    tags : tuple of str
        What occurs in it.
    bind : str
        The variable that it makes, if it is an assignment.
    target : str
        The tensor that it writes in place, if any.
    block : str
        The context manager that it is under, if any.
    """

    text: str
    tags: tuple[str, ...] = ()
    bind: str = ""
    target: str = ""
    block: str = ""

    @property
    def source(self) -> str:
        return f"with {self.block}: {self.text}" if self.block else self.text

    @property
    def expression(self) -> str:
        return self.text.split(" = ", 1)[1]

    @property
    def names(self) -> set[str]:
        return set(NAMES.findall(self.text))


def _bind(d: Draw, expression: str, *tags: str, prefix: str = "t") -> Line:
    name = d.new(prefix)
    return Line(f"{name} = {expression}", tags, name)


# ---------------------------------------------------------------------------------------- making


def _constant(d: Draw, arguments: str = "") -> str:
    options = ["", "", "", ", constant=True", ", constant=None"]
    names = [n for n in NAMES.findall(arguments) if n in d.env]
    if all(d.env[n].dtype.kind == "f" for n in names):  # difference "leaked locks"
        options.append(", constant=False")
    return d.rng.choice(options)


def array(d: Draw) -> Line:
    kind = d.rng.randrange(6)
    if kind == 0 and d.arrays:
        a = d.rng.choice(d.arrays)
        return _bind(d, f"{a}[{d.basic_index(a, keep=True)}]", "array: view", prefix="a")
    if kind == 1 and d.arrays:
        a = d.rng.choice(d.arrays)
        return Line(f"{a}.flags.writeable = False", ("array: read-only by its owner",))
    if kind in (2, 3):
        return _bind(d, f"{d.tensor()}.data", "array: a tensor's", prefix="a")
    if kind == 4:
        x = d.tensor()
        return _bind(d, f"np.asarray({x})", "array: np.asarray", prefix="a")
    return _bind(d, d.literal(d.rng.choice(SHAPES), d.rng.choice(DTYPES)), prefix="a")


def create(d: Draw) -> Line:
    kind = d.rng.randrange(8)
    if kind == 0 and d.tensors:
        name = d.pick(*calls.CREATION)
        options = _constant(d) if d.chance(0.5) else ""
        made = f"m.{name}({calls.CREATION[name](d)}{options})"
        if name in calls.LEFT_TO_CHANCE:
            made = f"fill({made})"
        return _bind(d, made, f"op: {name}")
    shape = d.rng.choice(SHAPES)
    if kind in (1, 2) and d.arrays:
        source = d.rng.choice(d.arrays)
        tag = "from an array"
    elif kind == 3 and d.tensors:
        source, tag = d.tensor(), "from a tensor"
    elif kind == 4:
        source, tag = d.plain(shape), "from a list or number"
    elif kind == 5:
        source, tag = str(d.number()), "from a list or number"
    else:
        source, tag = d.literal(shape, d.rng.choice(DTYPES)), "from an array"
    if d.chance(0.2):
        return _bind(d, f"m.astensor({source}{_constant(d)})", "op: astensor")
    options = ""
    for text, tag_of in (
        (", copy=False", "copy=False"),
        (d.pick(", dtype='f4'", ", dtype='f8'", ", dtype=int"), "dtype="),
        (f", ndmin={d.pick(0, 1, 3)}", "ndmin="),
    ):
        if d.chance(0.3 if "copy" in text else 0.12):
            options += text
            tag += f" {tag_of}"
    constant = _constant(d)
    tags = ["op: tensor", *(f"tensor: {t}" for t in ("copy=False", "dtype=", "ndmin=") if t in tag)]
    return _bind(d, f"m.tensor({source}{options}{constant})", *tags, f"tensor: {tag[:12].strip()}")


# ------------------------------------------------------------------------------------- computing


def call(d: Draw) -> Line:
    name = d.pick(*calls.CALLS)
    arguments = calls.CALLS[name](d)
    if name in calls.METHODS and d.chance(0.3) and re.match(r"t\d+(,|$)", arguments):
        x, _, rest = arguments.partition(",")
        return _bind(d, f"{x}.{name}({rest.strip()})", f"op: {name}", "spelled: method")
    if name in calls.NUMPY and d.chance(0.25) and "t" in arguments:
        return _bind(d, f"np.{name}({arguments})", f"op: {name}", "spelled: numpy")
    tags = [f"op: {name}", "spelled: function"]
    options = "" if name.startswith("atleast") else _constant(d, arguments)
    if "=" in options:
        tags.append(f"flag:{options[1:]}")
    return _bind(d, f"m.{name}({arguments}{options})", *tags)


def _ufunc_arguments(d: Draw) -> tuple[str, list[str]]:
    name = d.pick(*calls.UFUNCS)
    x = d.tensor() if d.chance(0.3) else d.float_tensor()
    operands = [x]
    if calls.UFUNCS[name] == 2:
        operands.insert(d.rng.randrange(2), d.operand(x))
    return name, operands


def ufunc(d: Draw) -> Line:
    name, operands = _ufunc_arguments(d)
    tags = [f"op: {name}"]
    if d.chance(0.25):
        return _bind(d, f"np.{name}({', '.join(operands)})", *tags, "spelled: numpy")
    options = _constant(d, ", ".join(operands))
    if "=" in options:
        tags.append(f"flag:{options[1:]}")
    if d.chance(0.1):
        options += d.pick(", dtype='f4'", ", dtype='f8'", ", dtype=np.float64")
        tags.append("flag: dtype=")
    if d.chance(0.15):
        shape = next((d.shape(o) for o in operands if o in d.tensors), ())
        call = f"masked(m.{name}, {', '.join(operands)}, where={d.mask(shape)}{options})"
        return _bind(d, call, *tags, "flag: where=")
    return _bind(d, f"m.{name}({', '.join(operands)}{options})", *tags)


def out(d: Draw) -> Line:
    """A function that writes its result to a tensor or an array."""
    spelled = d.pick("m", "np")
    if d.chance(0.75):
        name, operands = _ufunc_arguments(d)
        arguments = ", ".join(operands)
    else:
        name = d.pick(*sorted(calls.TAKES_OUT))
        arguments = calls.CALLS[name](d)
        operands = []
    tags = [f"op: {name}"]
    shape = _result_shape(d, f"m.{name}({arguments})")
    named = d.tensors + d.arrays
    holders = [n for n in named if d.shape(n) == shape and (operands or d.env[n].dtype == "f8")]
    if not holders and not d.chance(WRONG):
        return call(d)
    holder = d.rng.choice(holders or d.tensors)
    if holder in d.arrays and _shares(d, holder, NAMES.findall(arguments)):
        return call(d)  # difference "out is an operand"
    if d.chance(WRONG):
        holder = d.pick(*(d.tensors + d.arrays), "[1.0]")
    options = ""
    if operands and d.chance(0.3):
        options = f", where={d.mask(shape)}"
        tags.append("flag: where=")
    line = f"{spelled}.{name}({arguments}, out={holder}{options})"
    if holder in d.tensors:
        return Line(line, (*tags, "flag: out=tensor"), target=holder)
    return _bind(d, line, *tags, "flag: out=array")


def _shares(d: Draw, array: str, names: list[str]) -> bool:
    operands = [d.env[n] for n in names]
    raw = [x if isinstance(x, np.ndarray) else x.data for x in operands]
    return any(np.shares_memory(d.env[array], a) for a in raw)


def _result_shape(d: Draw, expression: str) -> tuple[int, ...]:
    try:
        with d.env["m"].no_autodiff:
            return eval(expression, dict(d.env)).shape
    except (ValueError, TypeError):
        return (2, 3)


def operator(d: Draw) -> Line:
    kind = d.rng.randrange(8)
    if kind == 0:
        sign = d.pick("-", "+")
        x = d.tensor()
        return _bind(d, f"{sign}{x}", f"operator: unary {sign}")
    if kind == 1:
        x = d.float_tensor()
        n = d.pick("2", "1", "3", "0.5", "2.0")
        return _bind(d, f"{x} ** scalar({n}, {x})", "operator: power of a number")
    sign = d.pick("+", "-", "*", "/", "+", "-", "*", "/", "**", "@")
    x = d.float_tensor()
    if sign == "@":
        return _bind(d, calls.CALLS["matmul"](d).replace(", ", " @ ", 1), "operator: @")
    y = d.operand(x)
    if d.chance(0.3) and y not in d.tensors:
        return _bind(d, f"{y} {sign} {x}", f"operator: reflected {sign}")
    return _bind(d, f"{x} {sign} {y}", f"operator: {sign}")


def getitem(d: Draw) -> Line:
    if d.chance(0.75):
        x = d.tensor()
        return _bind(d, f"{x}[{d.basic_index(x)}]", "index: basic")
    x = d.tensor(lambda t: t.ndim)
    return _bind(d, f"{x}[{d.advanced_index(x)}]", "index: advanced")


def view(d: Draw) -> Line:
    x = d.tensor()
    kind = d.rng.randrange(5)
    if kind == 0:
        return _bind(d, f"{x}.T", "view: T")
    if kind == 1:
        return _bind(d, f"{x}.reshape({d.new_shape(x)})", "view: reshape")
    if kind == 2:
        return _bind(d, f"{x}.flatten()", "op: flatten")
    return _bind(d, f"{x}[{d.basic_index(x, keep=True)}]", "view: index")


# --------------------------------------------------------------------------------------- writing


def augmented(d: Draw) -> Line:
    x = d.float_tensor() if d.chance(0.9) else d.tensor()
    sign = d.pick("+", "-", "*", "/", "**")
    y = f"scalar({d.pick(1, 2, 3)}, {x})" if sign == "**" else d.operand(x)
    return Line(f"{x} {sign}= {y}", (f"operator: {sign}=",), target=x)


def setitem(d: Draw) -> Line:
    x = d.float_tensor() if d.chance(0.9) else d.tensor()
    advanced = d.chance(0.3)
    index = d.advanced_index(x) if advanced else d.basic_index(x)
    value = str(d.number())
    try:
        part = d.env[x].data[eval(f"np.index_exp[{index}]", {"np": np})]
    except IndexError:
        part = None
    if part is not None and d.chance(0.8):
        names = [n for n in d.tensors + d.arrays if d.shape(n) == part.shape]
        if names and d.chance(0.7):
            value = d.rng.choice(names)
        else:
            value = d.literal(part.shape)
    tag = f"setitem: {'advanced' if advanced else 'basic'}"
    kind = "a tensor" if value in d.tensors else "no tensor"
    return Line(f"{x}[{index}] = {value}", (tag, f"setitem: {kind}"), target=x)


def raw_write(d: Draw) -> Line:
    """The user writes to an array: refused while a graph depends on it."""
    ready = [a for a in d.arrays if _may_be_written(d, a)]
    if not ready:
        return array(d)
    a = d.rng.choice(ready)
    return Line(f"{a}[...] = {d.pick(0.5, 1, 2)}", ("array: written by the user",))


def _may_be_written(d: Draw, name: str) -> bool:
    """Whether the guard would notice: no writeable array may be another door to a graph's."""
    a = d.env[name]
    if is_broadcast(a):
        return False  # difference "broadcast"
    if not a.flags.writeable:
        return True
    if a.base is not None and not getattr(a.base, "flags", a.flags).writeable:
        return False
    others = [d.env[n] if n in d.arrays else d.env[n].data for n in d.arrays + d.tensors]
    return all(b.flags.writeable or not np.shares_memory(a, b) for b in others)


def data_setter(d: Draw) -> Line:
    alone = [n for n in d.tensors if _is_alone(d, d.env[n])]
    if not alone:
        return create(d)
    x = d.rng.choice(alone)
    names = [a for a in d.arrays if d.shape(a) == d.shape(x) and d.env[a].dtype.kind == "f"]
    value = d.rng.choice(names) if names and d.chance(0.5) else d.literal(d.shape(x))
    return Line(f"{x}.data = {value}", ("attribute: data",))


def _is_alone(d: Draw, t: Any) -> bool:
    """Whether neither a graph nor a view knows the tensor (difference "data")."""
    if any(d.env[n].base is t for n in d.tensors):
        return False
    return t.creator is None and not t._ops and t.base is None and t.dtype.kind == "f"


def shape_setter(d: Draw) -> Line:
    x = d.tensor(lambda t: t.ndim)
    if d.env[x].base is not None and d.env[x]._view_children:
        return view(d)  # difference "shape"
    return Line(f"{x}.shape = {d.new_shape(x)}", ("attribute: shape",), target=x)


# ------------------------------------------------------------------------------------- the graph


def backward(d: Draw) -> Line:
    x = d.float_tensor(lambda t: not t.constant)
    if d.chance(0.65):
        return Line(f"{x}.backward()", ("graph: backward",))
    shape = d.shape(x)
    same = [n for n in d.tensors + d.arrays if d.shape(n) == shape]
    g = d.pick("2.0", d.literal(shape), d.literal(shape[1:]), *same, "[1.0, 2.0, 3.0]")
    return Line(f"{x}.backward({g})", ("graph: backward with a gradient",))


def graph(d: Draw) -> Line:
    x = d.tensor()
    method = d.pick("null_grad", "clear_graph")
    return Line(f"{x}.{method}()", (f"graph: {method}",))


def delete(d: Draw) -> Line:
    if d.chance(0.02):
        return Line("gc.collect()", ("graph: gc",))
    name = d.pick(*(d.tensors + d.arrays) or ["t0"])
    return Line(f"del {name}", ("graph: del",))


def copy(d: Draw) -> Line:
    x = d.tensor()
    kind = d.rng.randrange(6)
    if kind == 0:
        return _bind(d, f"deepcopy({x})", "copy: deepcopy")
    if kind == 1:
        return _bind(d, f"pickled({x})", "copy: pickle")
    if kind == 2:
        return _bind(d, f"copy({x})", "copy: copy.copy")
    if kind == 3:
        return _bind(d, f"{x}.copy({_constant(d)[2:]})", "copy: method")
    dtype = d.pick(
        "'f4'", "'f8'", "int", "'f8', copy=False", "'f2'", "'c8'", "'i4', casting='safe'"
    )
    return _bind(d, f"astype({x}, {dtype})", "copy: astype")


# -------------------------------------------------------------------------------------- answers


def answer(d: Draw) -> Line:
    kind = d.rng.randrange(4)
    if kind == 0:
        sign = d.pick("<", "<=", ">", ">=", "==", "!=", "//")
        x = d.tensor()
        return Line(f"answer = {x} {sign} {d.operand(x)}", (f"operator: {sign}",))
    if kind == 1:
        x = d.tensor(lambda t: t.size == 1 or d.chance(0.2))
        f = d.pick("float({})", "int({})", "{}.item()", "len({})", "repr({})", "list({})")
        return Line(f"answer = {f.format(x)}", ("answer: " + f,))
    name = d.pick(*calls.ANSWERS)
    spelled = d.pick("m", "np") if name in NUMPY_ANSWERS else "m"
    return Line(f"answer = {spelled}.{name}({calls.ANSWERS[name](d)})", (f"op: {name}",))


NUMPY_ANSWERS = {
    n for n in calls.ANSWERS if n not in ("copyto", "bincount", "asarray", "sliding_window_view")
}


def mistake(d: Draw) -> Line:
    name = d.pick(*MISTAKES)
    text = MISTAKES[name](d)
    writes = re.search(r" [-+*/]?= |out=t", text)
    target = NAMES.search(text) if writes else None
    return Line(text, (f"mistake: {name}",), target=target.group() if target else "")


# kind of line -> how often
LINES: dict[Callable[[Draw], Line], int] = {
    array: 5,
    create: 9,
    call: 18,
    ufunc: 12,
    out: 6,
    operator: 12,
    getitem: 6,
    view: 7,
    augmented: 7,
    setitem: 7,
    raw_write: 2,
    data_setter: 1,
    shape_setter: 2,
    backward: 9,
    graph: 2,
    delete: 3,
    copy: 3,
    answer: 4,
    mistake: 3,
}
_KINDS, _WEIGHTS = list(LINES), list(LINES.values())


def _is_reshaped(d: Draw, name: str) -> bool:
    """Whether the shape of the tensor or of its base was set."""
    t = d.env[name]
    return type((t if t.base is None else t.base).creator).__name__ == "Reshape"


def draw_line(d: Draw, unguarded: bool) -> Line:
    """A line for the variables of `d`.

    Nothing is written to arrays in `unguarded` programs, whose arrays no guard protects: what the
    gradient is then depends on what a library happened to save.
    """
    if len(d.tensors) + len(d.arrays) > 9:
        return delete(d)
    if not d.tensors:
        return create(d)
    kind = d.rng.choices(_KINDS, _WEIGHTS)[0]
    if unguarded and kind in (raw_write, array):
        kind = create
    line = kind(d)
    if line.target and (_is_reshaped(d, line.target) or is_broadcast(d.env[line.target].data)):
        line = getitem(d)  # differences "shape" and "broadcast"
    if kind in (mistake, raw_write, delete, array, answer, shape_setter):
        return line
    if d.chance(0.06) and not (unguarded and line.target):
        return line._replace(block="m.no_autodiff", tags=(*line.tags, "block: no_autodiff"))
    if unguarded and d.chance(0.4):
        block = d.pick("m.mem_guard_off", "m.mem_guard_off", "m.mem_guard_on")
        return line._replace(block=block, tags=(*line.tags, "block: " + block[2:]))
    return line
