"""Every deliberate difference from mygrad 2.5.0, with its reason: the one table of them.

A difference that a random program may meet is enacted, not excused: `theirs` makes mygrad do what
gpugrad does (it is given the array that NumPy makes of a number, it takes a view again that it has
forgotten), and everything after is compared as ever. What cannot be enacted is a condition, under
which one stated observation may differ.
"""

from __future__ import annotations

__all__ = ["DIFFERENCES", "MET_BY_RANDOM_PROGRAMS"]

DIFFERENCES = {
    "numbers": (
        "a Python number takes the dtype of the array beside it, as in NumPy 2 (NEP 50); mygrad "
        "makes an array of 64 bits of it. Integers to the power 1.0 or 2.0 are floats, as NumPy's; "
        "mygrad's are integers"
    ),
    "masked": (
        "without out=, elements outside where= are 0; mygrad, like NumPy, leaves them to chance"
    ),
    "astype": "a constant stays one; mygrad's astype makes it variable, against its manual",
    "data": (
        "an operation computed before .data was set is differentiated where it was computed; "
        "mygrad differentiates it at the new numbers. Views follow the data of their base"
    ),
    "pickle": (
        "deepcopy and pickle of a tensor give a leaf with its value, flag and gradient; mygrad "
        "copies the graph and the base with it, and cannot pickle a tensor that is in a graph"
    ),
    "gradients of views": (
        "a tensor that has a gradient and views can be written to; mygrad fails with an "
        "AssertionError. A write that fails leaves the gradient; mygrad has forgotten it by then"
    ),
    "without a graph": (
        "no_autodiff changes nothing about which dtypes are accepted and that only floats are "
        "variable; mygrad checks neither there"
    ),
    "views stay": (
        "a view of which the graph was cleared is still a view: it shares memory and gradient "
        "with its base; mygrad cuts it off at its next use"
    ),
    "cleared graph": (
        "backward() through a graph of which a part was cleared raises InvalidBackprop; mygrad "
        "leaves gradients that lack that part. So backward() twice on one tensor raises, since the "
        "first clears the graph; in mygrad the second reaches nothing but the tensor itself"
    ),
    "shared leaves": (
        "two graphs that share no more than leaves can both be back-propagated; in mygrad the "
        "first backward() makes the second raise InvalidBackprop"
    ),
    "views without a graph": (
        "a view that no_autodiff takes of a protected array becomes writeable with it; in mygrad "
        "it stays read-only for good"
    ),
    "copyto": (
        "copyto of a tensor that takes gradients into an array is refused, as its gradient would "
        "be lost; mygrad copies the numbers"
    ),
    "broadcast": (
        "a broadcast view stays read-only, as NumPy made it; mygrad makes it writeable when its "
        "graph is cleared"
    ),
    "free again": (
        "an array of a cleared graph is free again, although something that was computed from it "
        "is still there: that cannot be back-propagated any more"
    ),
    "held by a view": (
        "a view of an array of a cleared graph that was not in that graph protects the array until "
        "it is used or dropped; in mygrad a view of it that was in the graph takes it along"
    ),
    "view of a protected array": (
        "a view whose graph was cleared is read-only while its base is protected, since a write to "
        "it would reach the base"
    ),
    "nan": (
        "what is computed from nan or infinity may have the derivative nan; mygrad's rules for the "
        "absolute value, cumprod and some more give 0"
    ),
    "empty": "repeat and max of nothing have a derivative; mygrad's fails without elements",
    "shape": (
        "views of a tensor or view whose shape was set stay what they were; mygrad cuts some off"
    ),
    "copied views": "the copy of a view has its gradient too; mygrad's has none",
    "gradients without dimensions": (
        "the gradient of a 0-d tensor is an array, and that of its view shares its memory; mygrad "
        "gives numbers after some operations"
    ),
    "division by zero": (
        "transposition of a 0-d tensor by axes raises NumPy's ValueError, the derivative of a "
        "variance without degrees of freedom is nan; mygrad fails with a ZeroDivisionError"
    ),
    "out is an operand": (
        "an array may be operand and out= at once, as in NumPy; mygrad has protected it by then"
    ),
    "indices": (
        "indices, masks and counts may be written to after the call, which has kept its own; "
        "mygrad differentiates by the new ones"
    ),
    "clip": (
        "clip with two bounds writes to out= once; mygrad writes twice, and the second time the "
        "array is protected already"
    ),
    "leaked locks": (
        "constant=False for a result of integers fails and leaves nothing protected; in mygrad "
        "the operands stay read-only"
    ),
    "nothing to do": (
        "squeeze without an axis to drop, or atleast_kd with constant= of a tensor that has the "
        "dimensions, gives a view; mygrad a tensor that shares memory without knowing it"
    ),
    "lazy views": (
        "a view of a tensor that was written to is renewed when it is next looked at, and protects "
        "until then what it showed before"
    ),
    "operators": (
        "abs(t), t % s, divmod(t, s), t @= s and bool(t) are NumPy's; mygrad has none of them"
    ),
    "finite gradient": (
        "where mygrad's gradient is nan or infinite gpugrad's may be the finite limit"
    ),
}

# those that the random programs enact or excuse: each occurs, or it is no difference any more
MET_BY_RANDOM_PROGRAMS = (
    "numbers",
    "masked",
    "astype",
    "pickle",
    "gradients of views",
    "copied views",
    "views stay",
    "shared leaves",
    "cleared graph",
    "free again",
    "held by a view",
    "view of a protected array",
    "views without a graph",
    "broadcast",
)
