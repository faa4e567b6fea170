"""Small programs about memory: views, writes, the guard; see :mod:`tests.parity.programs`.

They are added to the same table.
"""

from __future__ import annotations

import pickle

import numpy as np

from tests.parity.programs import PROGRAMS, A, program

__all__ = ["PROGRAMS"]

# --------------------------------------------------------------------------------- views, writes


@program
def views(m):
    x = m.tensor(A)
    row, column, line = x[0], x[:, 1], x.reshape(6)
    (x * x).backward()
    return {
        "x": x,
        "row": row,
        "column": column,
        "line": line,
        "base": row.base is x,
        "grad": np.shares_memory(row.grad, x.grad),
    }


@program
def gradient_of_a_view_that_was_used(m):
    x = m.tensor(A)
    row = x[0]
    y = (row * row).sum() + x.sum()
    y.backward()
    return {"x": x, "row": row}


@program
def view_of_a_result(m):
    x = m.tensor(A)
    y = x * 2
    row = y[0]
    (y * y).backward()
    return {"x": x, "y": y, "row": row}


@program
def setitem(m):
    x, v = m.tensor(A), m.tensor([7.0, 8.0])
    y = x * 1
    y[0, 1:] = v
    z = y * y
    z.backward()
    return {"x": x, "v": v, "y": y, "z": z}


@program
def setitem_of_a_leaf(m):
    x = m.tensor(A)
    x[0] = 5
    (x * x).backward()
    return {"x": x}


@program
def setitem_duplicates(m):
    x, v = m.tensor([1.0, 2.0, 3.0]), m.tensor([5.0, 6.0])
    y = x * 1
    y[[0, 0]] = v
    (y * y).backward()
    return {"x": x, "v": v, "y": y}


@program
def write_through_a_view(m):
    x, v = m.tensor(A), m.tensor([7.0, 8.0, 9.0])
    y = x * 1
    row = y[1]
    row[...] = v
    z = (y * y).sum()
    z.backward()
    return {"x": x, "v": v, "y": y, "row": row, "shares": np.shares_memory(y.data, row.data)}


@program
def augmented(m):
    x, v = m.tensor(A), m.tensor([1.0, 2.0, 3.0])
    y = x * 1
    row = y[0]
    y *= v
    row += 1
    y /= 2
    y -= v
    y **= 2
    y.backward()
    return {"x": x, "v": v, "y": y, "row": row}


@program
def augmented_leaf(m):
    x = m.tensor([1.0, 2.0])
    x *= 3
    (x * x).backward()
    return {"x": x}


@program
def earlier_consumer_keeps_what_it_saw(m):
    x = m.tensor([1.0, 2.0])
    y = x * 1
    z = y * y
    y[0] = 10
    w = z + y
    w.backward()
    return {"x": x, "y": y, "z": z}


@program
def no_autodiff_write(m):
    array = np.ones(3)
    x = m.tensor(array, copy=False)
    with m.no_autodiff:
        x[0] = 5
        x += 1
    return {"x": x, "array": array, "same": x.data is array}


@program
def shape_setter(m):
    x = m.tensor(A)
    y = x * 2
    y.shape = (3, 2)
    (y * y).backward()
    return {"x": x, "y": y}


@program
def shape_setter_with_views(m):
    x = m.tensor(A)
    tail = x[1]
    x.shape = (6,)
    x[4] = 0
    (x * x).backward()
    return {"x": x, "tail": tail}


@program
def constant_takes_a_variable(m):
    c, x = m.tensor([1.0, 2.0], constant=True), m.tensor([3.0, 4.0])
    c[...] = x
    return {"c": c}


@program
def write_of_a_wrong_shape(m):
    x = m.tensor(A)
    x[0] = np.ones(5)
    return {"x": x}


@program
def write_into_a_read_only_array(m):
    array = np.ones(3)
    array.flags.writeable = False
    x = m.tensor(array, copy=False)
    x[0] = 2
    return {"x": x}


@program
def view_used_again(m):
    x = m.tensor([1.0, 2.0, 3.0])
    tail = x[1:]
    (tail * tail).sum().backward()
    (tail * 3).sum().backward()
    return {"x": x, "tail": tail}


@program
def view_written_after_backward(m):
    x = m.tensor([1.0, 2.0, 3.0])
    tail = x[1:]
    (tail * tail).sum().backward()
    tail[0] = 9
    return {"x": x, "tail": tail}


# -------------------------------------------------------------------------------- memory guard


@program
def guard(m):
    array = A.copy()
    x = m.tensor(array, copy=False)
    y = x * array
    seen = [a.flags.writeable for a in (array, x.data, y.data)]
    y.backward()
    return {"seen": seen, "after": [a.flags.writeable for a in (array, x.data, y.data)]}


@program
def guard_of_views(m):
    array = A.copy()
    x = m.tensor(array, copy=False)
    row = x[0]
    y = row * 2
    seen = [a.flags.writeable for a in (array, x.data, row.data, y.data)]
    y.backward()
    after = [a.flags.writeable for a in (array, x.data, row.data, y.data)]
    return {"seen": seen, "after": after, "x": x}


@program
def guard_and_exceptions(m):
    array = A.copy()
    x = m.tensor(array, copy=False)
    try:
        x + np.ones(7)
    except ValueError:
        pass
    return {"after": array.flags.writeable}


@program
def guard_off(m):
    array = A.copy()
    x = m.tensor(array, copy=False)
    with m.mem_guard_off:
        y = x * 2
        return {"seen": [array.flags.writeable, y.data.flags.writeable]}


@program
def guard_and_owners_wish(m):
    array = A.copy()
    array.flags.writeable = False
    x = m.tensor(array, copy=False)
    (x * 2).backward()
    return {"after": array.flags.writeable, "x": x}


@program
def guard_released_with_the_graph(m):
    array = A.copy()
    x = m.tensor(array, copy=False)
    y = x * 2
    seen = array.flags.writeable
    del y
    return {"seen": seen, "after": array.flags.writeable}


# ------------------------------------------------------------------------------------ conversion


@program
def python_numbers(m):
    x = m.tensor([2.5])
    return {"item": x.item(), "float": float(m.tensor(2.5)), "int": int(m.tensor(2.5))}


@program
def item_of_many(m):
    return {"item": m.tensor(A).item()}


@program
def length_and_iteration(m):
    x = m.tensor(A)
    rows = list(x)
    return {"n": len(x), "first": rows[0], "in": 0.5 in x}


@program
def iteration_over_0d(m):
    return {"rows": list(m.tensor(1.0))}


@program
def representation(m):
    return {"r": repr(m.tensor(A)), "i": repr(m.tensor([1])), "s": repr(m.tensor(2.0))}


@program
def data_setter(m):
    x = m.tensor([1.0, 2.0])
    x.data = np.array([3.0, 4.0])
    (x * x).backward()
    return {"x": x}


# ------------------------------------------------------------------------- deliberate differences


@program
def operators_that_mygrad_lacks(m):
    return {"x": abs(m.tensor([-1.0, 2.0]))}


@program
def two_graphs_with_one_leaf(m):
    x = m.tensor([1.0, 2.0])
    y, z = x * 2, x * 3
    y.backward()
    z.backward()
    return {"x": x}


@program
def write_to_a_tensor_with_gradient_and_views(m):
    x = m.tensor([1.0, 2.0])
    row = x[:1]
    x.backward()
    row[0] = 5.0
    return {"x": x}


@program
def pickle_within_a_graph(m):
    x = m.tensor([1.0, 2.0])
    y = x * 2
    return {"x": pickle.loads(pickle.dumps(y))}


@program
def copy_of_a_view(m):
    x = m.tensor([1.0, 2.0])
    row = x[:1]
    (x * x).backward()
    return {"x": row.copy()}


@program
def broadcast_view_after_backward(m):
    x = m.broadcast_to(m.tensor([1.0, 2.0]), (2, 2))
    x.backward()
    return {"x": x}


@program
def squeeze_of_nothing(m):
    x = m.tensor([1.0, 2.0])
    return {"view": m.squeeze(x).base is x}


@program
def derivative_at_nan(m):
    x = m.tensor([float("nan")])
    m.absolute(x).backward()
    return {"x": x}


@program
def array_that_is_operand_and_out(m):
    x, array = m.tensor([1.0, 2.0]), np.ones(2)
    y = m.add(x, array, out=array)
    return {"y": y}


@program
def view_without_a_graph(m):
    x = m.tensor([1.0, 2.0])
    y = x * 2
    with m.no_autodiff:
        row = x[:1]
    seen = row.data.flags.writeable
    y.backward()
    return {"seen": seen, "after": row.data.flags.writeable}


# -------------------------------------------------------------- found by the differential test


@program
def clip_without_bounds(m):
    x = m.tensor([1.0, 2.0])
    return {"same": m.clip(x, None, None) is x}


@program
def number_of_one_element(m):
    return {"float": float(m.tensor([2.5])), "int": int(m.tensor([[2.5]]))}


@program
def number_of_no_element(m):
    return {"float": float(m.tensor([]))}


@program
def gradient_outlives_an_operation_that_fails(m):
    x = m.tensor([1.0, 2.0])
    (x * x).backward()
    try:
        m.sum(x, axis=7)
    except ValueError:
        pass
    return {"x": x}


@program
def gradient_outlives_a_view_and_no_advanced_index(m):
    x, y = m.tensor([1.0, 2.0]), m.tensor([1.0, 2.0])
    (x * y).backward()
    return {"view": x[:1], "x": x, "index": y[[0, 0]], "y": y}


@program
def joined_and_summed_tensors_forget_their_gradients(m):
    x, y, z = m.tensor([1.0, 2.0]), m.tensor([1.0, 2.0]), m.tensor([1.0, 2.0])
    (x * y * z).backward()
    kept = [m.stack([x, x]), m.cumsum(y), m.repeat(z, 2)]
    return {"x": x, "y": y, "z": z, "n": len(kept)}


@program
def gradient_of_a_view_after_its_base_was_used(m):
    x = m.tensor([1.0, 2.0])
    y = x * 1
    row = y[:1]
    y.backward()
    column = y.reshape((2, 1))
    return {"row": row, "column": column}


@program
def gradients_of_broadcast_seeds_are_in_order(m):
    x = m.tensor(A)
    x.backward([1.0, 2.0, 3.0])
    line = x.reshape((6,))
    return {"x": x, "shares": np.shares_memory(line.grad, x.grad)}


@program
def gradient_of_a_reduction_is_in_order(m):
    x = m.tensor(np.arange(12.0).reshape(2, 3, 2))
    line = x.reshape((-1,))
    m.max(x, axis=0).backward()
    return {"x": x, "shares": np.shares_memory(line.grad, x.grad)}


@program
def tensor_of_a_tensor_with_more_axes_is_a_view(m):
    x = m.tensor([1.0, 2.0])
    y = m.tensor(x, copy=False, ndmin=2)
    return {"y": y, "base": y.base is x}


@program
def shape_set_without_a_graph(m):
    x = m.tensor(A)
    with m.no_autodiff:
        x.shape = (3, 2)
    return {"x": x, "leaf": x.creator is None}


@program
def shape_set_to_what_it_is(m):
    x = m.tensor(A)
    x.shape = (2, 3)
    return {"leaf": x.creator is None}


@program
def copy_keeps_the_order_in_memory(m):
    x = m.tensor(A).T.copy()
    return {"strides": x.data.strides}


@program
def graph_recorded_without_the_guard_is_not_protected_later(m):
    array = A.copy()
    x = m.tensor(array, copy=False)
    with m.mem_guard_off:
        y = x * 2
    seen = [array.flags.writeable, y.data.flags.writeable]
    z = y * 2
    later = [array.flags.writeable, y.data.flags.writeable, z.data.flags.writeable]
    return {"seen": seen, "later": later}


@program
def views_of_what_was_written_without_the_guard_are_free(m):
    x = m.tensor(A)
    row = x[0]
    with m.mem_guard_off:
        x *= 2.0
    return {"row": row.data.flags.writeable, "x": x.data.flags.writeable}


@program
def view_of_a_cleared_graph_is_read_only_while_its_base_is(m):
    x = m.tensor(A)
    y = x * 2
    row = x[0]
    row.backward()
    seen = row.data.flags.writeable
    y.clear_graph()
    return {"seen": seen, "after": row.data.flags.writeable}


@program
def tensor_whose_shape_was_set_is_protected(m):
    with m.no_autodiff:
        x = m.tensor([1.0]) * 1.0
    y = m.abs(x)
    x.shape = (1, 1)
    z = x.reshape((1,))
    z.backward()
    return {"x": x.data.flags.writeable, "y": y}
