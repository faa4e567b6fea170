"""mygrad, made to do what gpugrad does where the two differ on purpose.

See `DIFFERENCES` in :mod:`tests.parity.differential.differences` for the reasons.
"""

from __future__ import annotations

import copy
import pickle
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import mygrad as mg
import numpy as np
from mygrad._utils.lock_management import unlock_view_with_base

import gpugrad as gg
from tests.parity.differential.calls import CREATION
from tests.parity.differential.draw import is_broadcast
from tests.parity.differential.lines import Line

__all__ = ["Mygrad"]

# what makes tensors of tensors without recording anything
OPS_OF_ARRAYS = {f"op: {name}" for name in (*CREATION, "tensor", "astensor")}


class Mygrad:
    """The variables of a program under mygrad, and what has to be known about them."""

    def __init__(self, common: dict[str, Any]) -> None:
        self.counts: Counter[str] = Counter()
        self.env: dict[str, Any] = {
            "m": mg,
            "scalar": self._scalar,
            "masked": self._masked,
            "astype": self._astype,
            "deepcopy": partial(self._copied, copy.deepcopy),
            "pickled": partial(self._copied, lambda t: pickle.loads(pickle.dumps(t))),
            **common,
        }
        # name of a view -> the expressions, of `_`, that lead to it from its base
        self.chain: dict[str, tuple[str, ...]] = {}
        self.shape_before: tuple[int, ...] = ()
        # views that were taken under no_autodiff or mem_guard_off
        self.unguarded: set[str] = set()
        # tensors that a line which fails was given others for
        self.undo: list[tuple[str, Any]] = []
        # arrays that the user took while they were protected by a view, see "held by a view"
        self.sticky: set[str] = set()
        # tensors that an operation made, by id
        self.made: dict[int, weakref.ref] = {}
        # operation -> which of its operands had a creator when it was recorded
        self.edges: weakref.WeakKeyDictionary[Any, list[bool]] = weakref.WeakKeyDictionary()

    # ------------------------------------------------------------------ differences in one call

    def _scalar(self, number: float, beside: Any) -> Any:
        dtype = np.result_type(beside.dtype, number)
        if dtype != np.asarray(number).dtype:
            self.counts["difference: numbers"] += 1
        if type(number) is float and np.asarray(beside).dtype.kind != "f":
            # of an array or a number mygrad takes the 2.0 for a 2, and integers for integers
            self.counts["difference: numbers"] += 1
            return mg.tensor(number, dtype=dtype, constant=True)
        return np.asarray(number, dtype)

    def _masked(self, f: Any, *x: Any, where: Any, **options: Any) -> Any:
        with mg.no_autodiff:
            sample = f(*x, **options)
        self.counts["difference: masked"] += 1
        shape = np.broadcast_shapes(sample.shape, np.shape(where))
        return f(*x, where=where, out=np.zeros(shape, sample.dtype), **options)

    def _astype(self, t: Any, dtype: Any, **options: Any) -> Any:
        constant = None
        if t.constant and t.dtype.kind == np.dtype(dtype).kind == "f":
            self.counts["difference: astype"] += 1
            constant = True
        return t.astype(dtype, constant=constant, **options)

    def _copied(self, function: Callable[[Any], Any], t: Any) -> Any:
        if t._creator is None and t._base is None and not t._ops:
            return function(t)
        self.counts["difference: pickle"] += 1
        new = mg.Tensor(t.data.copy(), constant=t.constant)
        g = self.grad(t)
        new._grad = None if g is None else g.copy()
        return new

    # --------------------------------------------------------------------------- views that stay

    def _tensors(self) -> Iterator[tuple[str, Any]]:
        return ((k, v) for k, v in list(self.env.items()) if isinstance(v, mg.Tensor))

    def _is_stale(self, t: Any, written: bool = False) -> bool:
        """Whether mygrad would cut this view off from its base at its next use."""
        if t._base is None:
            return False
        return _is_cut_off(t) or (written and not _leads_to(t._base, t))

    def prepare(self, line: Line, fails: bool, renewed: set[str]) -> None:
        """Take the views again that the line uses and that mygrad has forgotten."""
        if "no_autodiff" in line.block:
            return
        used = line.names
        if line.target:
            target = self.env.get(line.target)
            owner = getattr(target, "base", None)
            owner = target if owner is None else owner
            if not fails and (".shape = " not in line.text or self._moves(line, target, owner)):
                used |= {n for n, t in self._tensors() if t.base is owner or t is owner}
            self.shape_before = getattr(target, "shape", ())
            for _, t in self._tensors():
                self._reconnect(t)
        if ".backward(" in line.text:
            self._reconnect(self.env.get(line.text.split(".", 1)[0]))
        if line.tags and line.tags[0].startswith(("graph", "array", "copy")):
            return
        if (line.text.startswith("answer") and "list(" not in line.text) or (
            line.tags[:1] and line.tags[0] in OPS_OF_ARRAYS and "ndmin" not in line.text
        ):
            return
        for name in sorted(used):
            t = self.env.get(name)
            if not isinstance(t, mg.Tensor) or name not in self.chain:
                continue
            k = re.search(r"atleast_(\d)", line.text)
            if k and t.ndim >= int(k.group(1)):
                continue  # it is returned as it is
            if self._is_stale(t, written=bool(line.target) and ".shape = " not in line.text):
                with mg.mem_guard_off if "guard_off" in line.block else nullcontext():
                    self._retake(name, t)
                if "guard_off" in line.block:
                    self._unlock_with_base(self.env[name].data)
                if fails and name not in renewed:
                    self.undo.append((name, t))  # gpugrad refused before it looked at it

    @contextmanager
    def keeping_gradients(self, line: Line, fails: bool) -> Iterator[None]:
        """mygrad cannot write to tensors with a gradient that have views: take it away before.

        A write that `fails` changes nothing, so it is given back then.
        """
        if ".backward(" in line.text and fails:
            everything = {
                id(t): t for _, v in self._tensors() for t in (v, v.base) if t is not None
            }
            before = [(t, t._grad, t._view_grad) for t in everything.values()]
            yield
            for t, g, view_g in before:
                t._grad, t._view_grad = g, view_g
            return
        target = self.env.get(line.target)
        if not isinstance(target, mg.Tensor) or "no_autodiff" in line.block:
            yield
            return
        owner = target if target.base is None else target.base
        family = {id(t): t for _, t in self._tensors() if t is owner or t.base is owner}
        family[id(owner)] = owner
        if ".shape = " in line.text and owner is not target:
            family = {id(target): target}
        if not fails and len(family) > 1 and owner._grad is not None:
            self.counts["difference: gradients of views"] += 1
        if ".shape = " in line.text and eval(line.expression, dict(self.env)) == target.shape:
            family = {}  # nothing happens
        before = [(t, t._grad, t._view_grad, t._base) for t in family.values()]
        for t in family.values():
            t.null_grad()
        yield
        if fails:
            for t, g, view_g, base in before:
                t._grad, t._view_grad, t._base = g, view_g, base

    @contextmanager
    def freeing(self, line: Line, succeeds: bool) -> Iterator[None]:
        """Let a write without a graph reach an array that gpugrad has set free again."""
        held = []
        if succeeds and (
            "no_autodiff" in line.block or line.text.startswith("a") or "out=a" in line.text
        ):
            for name in line.names & set(self.env):
                x = self.env[name]
                array = x.data if isinstance(x, mg.Tensor) else x
                if not array.flags.writeable and self._only_held_by_cut_graphs(array):
                    held += [a for a in (array.base, array) if a is not None]
        target = self.env.get(line.target)
        if succeeds and isinstance(target, mg.Tensor) and target.base is None:
            if target.data.base is not None:  # difference "views without a graph"
                held += [target.data.base, target.data]
        held = [a for a in held if not a.flags.writeable]
        for a in held:
            a.flags.writeable = True
        yield
        for a in reversed(held):
            a.flags.writeable = False

    def refuse_integers(
        self, line: Line, theirs: Exception | None, ours: Exception | None
    ) -> Exception | None:
        """The error that mygrad does not raise without a graph."""
        new = self.env.get(line.bind)
        if theirs is None and ours is not None and "no_autodiff" in line.block:
            if isinstance(new, mg.Tensor) and new.dtype.kind != "f":
                if not new.constant or new.dtype.kind not in "iub":
                    del self.env[line.bind]
                    self.counts["difference: without a graph"] += 1
                    return type(ours)()
        return theirs

    def _moves(self, line: Line, target: Any, owner: Any) -> bool:
        """Whether setting the shape moves the base of the views of `target`."""
        return target is owner and eval(line.expression, dict(self.env)) != target.shape

    def _reconnect(self, root: Any) -> None:
        """Let the leaves of a graph know again that they are in it."""
        stack, seen = [root], set()
        while stack:
            t = stack.pop()
            op = getattr(t, "_creator", None)
            if op is None or id(op) in seen:
                continue
            seen.add(id(op))
            for v in op.variables:
                if not any(known() is op for known in v._ops):
                    self.counts["difference: shared leaves"] += 1
                    v._ops.add(weakref.ref(op, v._ops.discard))
                stack.append(v)

    def _retake(self, name: str, old: Any) -> None:
        self.counts["difference: views stay"] += 1
        new = self._follow(old.base, self.chain[name])
        new._constant = old._constant
        for alias, t in self._tensors():
            if t is old:
                self.env[alias] = new
        self._note_graph(new)

    def _follow(self, x: Any, chain: tuple[str, ...]) -> Any:
        for expression in chain:
            x = eval(expression, {**self.env, "_": x})
        return x

    def grad(self, t: Any) -> Any:
        """The gradient of `t`; of a view that stays one, the view of its base's."""
        g = t.grad
        if t._base is None or t.base.grad is None or (g is not None and not self._is_stale(t)):
            return None if g is None else np.asarray(g)
        name = next((n for n, v in self._tensors() if v is t), None)
        if name not in self.chain:
            return g
        with mg.no_autodiff:
            return self._follow(mg.astensor(t.base.grad), self.chain[name]).data

    # ------------------------------------------------------------------------ what is remembered

    def note(self, line: Line, error: Exception | None) -> None:
        """Remember, after a line, what it made."""
        for name, t in self.undo:
            new = self.env[name]
            self.env.update({alias: t for alias, v in self._tensors() if v is new})
        self.undo.clear()
        self.unguarded &= set(self.env) - {line.bind}
        self.sticky &= set(self.env) - {line.bind}
        for name in [n for n in self.chain if n not in self.env]:
            del self.chain[name]
        new = self.env.get(line.bind) if error is None and line.bind else None
        if isinstance(new, mg.Tensor):
            self._note_view(line, new)
            if line.tags[0].startswith("copy: "):
                self._note_copy(line, new)
            if line.block in ("m.no_autodiff", "m.mem_guard_off") and new.data.base is not None:
                self._unlock_with_base(new.data)
                self.unguarded.add(line.bind)
        if error is None and ".shape = " in line.text and line.target in self.env:
            self._note_shape(line)
        for _, t in self._tensors():
            self._note_graph(t)

    def _note_copy(self, line: Line, new: Any) -> None:
        source = self.env.get(next(iter(line.names - {line.bind}), ""))
        if isinstance(source, mg.Tensor) and source._base is not None and "astype" not in line.text:
            g = self.grad(source)
            if g is not None:
                self.counts["difference: copied views"] += 1
                new._grad = g.copy()

    def _unlock_with_base(self, view: np.ndarray) -> None:
        if not view.flags.writeable and not is_broadcast(view):
            unlock_view_with_base(view)
            self.counts["difference: views without a graph"] += 1

    def _note_view(self, line: Line, new: Any) -> None:
        alias = next((n for n, t in self._tensors() if t is new and n != line.bind), None)
        if alias is not None:
            if alias in self.chain:
                self.chain[line.bind] = self.chain[alias]
            return
        if new.base is None:
            return
        parents = sorted(n for n in line.names - {line.bind} if n in self.env)
        for parent in parents:
            p = self.env[parent]
            if isinstance(p, mg.Tensor) and (p is new.base or p.base is new.base):
                before = self.chain.get(parent, ()) if p.base is not None else ()
                self.chain[line.bind] = (*before, _of_parent(line.expression, parent))
                return

    def _note_shape(self, line: Line) -> None:
        t = self.env[line.target]
        step = f"_.reshape({t.shape})"
        for name, v in self._tensors():
            if name not in self.chain:
                continue
            if t.base is not None and v is t:
                self.chain[name] = (*self.chain[name], step)
            elif v.base is t:
                self.chain[name] = (f"_.reshape({self.shape_before})", *self.chain[name])

    def _note_graph(self, root: Any) -> None:
        stack = [root]
        while stack:
            t = stack.pop()
            op = t._creator
            if op is None or op in self.edges:
                continue
            self.made[id(t)] = weakref.ref(t)
            self.edges[op] = [v._creator is not None for v in op.variables]
            stack.extend(op.variables)

    # --------------------------------------------------------------------------- cleared graphs

    def is_cut(self, line: Line) -> bool:
        """Whether the backward() of this line meets a part of its graph that was cleared."""
        name = line.text.split(".", 1)[0]
        root = self.env.get(name)
        if not isinstance(root, mg.Tensor) or ".backward(" not in line.text:
            return False
        known = self.made.get(id(root))
        if root._creator is None:
            return (known is not None and known() is root) or root._base is not None
        stack, seen = [root], set()
        while stack:
            t = stack.pop()
            op = t._creator
            if op is None or t.constant or id(op) in seen:
                continue
            seen.add(id(op))
            for v, had in zip(op.variables, self.edges.get(op, [])):
                if had and v._creator is None and not v.constant:
                    return True
                stack.append(v)
        return False

    def excuse(self, what: str, theirs: Any, ours: Any, our_env: dict[str, Any]) -> str | None:
        """The deliberate difference that explains an observation, or None."""
        if what.endswith("flags.writeable") and ours and not theirs:
            x = self.env[what.split(".")[0]]
            if self._only_held_by_cut_graphs(x.data if isinstance(x, mg.Tensor) else x):
                return "free again"
            if what.split(".")[0] in self.unguarded:
                return "views without a graph"
        if what.endswith("flags.writeable") and theirs and not ours:
            x = self.env[what.split(".")[0]]
            if is_broadcast(x.data if isinstance(x, mg.Tensor) else x):
                return "broadcast"
            name = what.split(".")[0]
            y = our_env[name]
            array = y.data if isinstance(y, gg.Tensor) else y
            if name in self.sticky or _is_held_by_a_view(our_env, array):
                self.sticky.add(name)
                return "held by a view"
            base = (x.data if isinstance(x, mg.Tensor) else x).base
            if base is not None and not base.flags.writeable:
                return "view of a protected array"
        if what.endswith("grad shares memory") and self.env[what.split(".")[0]].size == 1:
            return "gradients without dimensions"
        if what.endswith("creator is None") and theirs and not ours:
            y = our_env[what.split(".")[0]]
            if y.base is not None and y.base.creator is None:
                return "held by a view"
        return None

    def _only_held_by_cut_graphs(self, array: np.ndarray) -> bool:
        """Whether a graph that holds `array` was cleared in part."""
        for _, root in self._tensors():
            stack, seen = [root], set()
            while stack:
                t = stack.pop()
                op = t._creator
                if op is None or id(op) in seen:
                    continue
                seen.add(id(op))
                for v, had in zip(op.variables, self.edges.get(op, [])):
                    if (
                        had
                        and v._creator is None
                        and (np.shares_memory(v.data, array) or not array.size)
                    ):
                        return True
                    stack.append(v)
        return False


def _is_cut_off(view: Any) -> bool:
    """Whether a graph was cleared between the view and its base."""
    base = view._base
    while view is not base:
        if view._creator is None or view._base is None:
            return True
        view = view._creator.variables[0]
    return False


def _leads_to(base: Any, view: Any) -> bool:
    stack = [base]
    while stack:
        for child in stack.pop()._view_children:
            if child is view:
                return True
            stack.append(child)
    return False


def _is_held_by_a_view(env: dict[str, Any], array: np.ndarray) -> bool:
    """Whether a view that no one has used since its base's graph was cleared shows `array`."""
    views = [t for t in env.values() if isinstance(t, gg.Tensor) and t.base is not None]
    return any(
        t.creator is not None
        and t.base.creator is None
        and (np.shares_memory(t.data, array) or t.base.data is array or not array.size)
        for t in views
    )


def _of_parent(expression: str, parent: str) -> str:
    return re.sub(rf"\b{parent}\b", "_", expression)
