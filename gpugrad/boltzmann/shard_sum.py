r"""Sums over shards that are the same to the last bit on any number of ranks.

The terms of the shards are added along one binary tree, whoever holds them:

    shards       0   1   2   3   4   5   6   7
                  \ /     \ /     \ /     \ /
                   .       .       .       .
                    \     /         \     /       of 2 ranks each adds up one half, of 4 a quarter;
                       .               .          every rank adds up the rest for itself
                        \             /
                               .

A rank adds up the largest parts of the tree that lie within its own consecutive shards and gives
them to the others: with 1, 2, 4 or 8 ranks and 8 shards that is one array.
"""

from collections.abc import Callable
from typing import Any

from gpugrad.backend.array_module import get_array_module
from gpugrad.boltzmann.communicator import Communicator, Pending, own_shards

__all__ = ["PendingSum", "ShardSum"]

Node = tuple[int, int]


def _halves(node: Node) -> tuple[Node, Node]:
    """The two parts of a node, the first one of the largest power of two below its size."""
    first, stop = node
    middle = first + (1 << (stop - first - 1).bit_length() - 1)
    return (first, middle), (middle, stop)


def _nodes_within(own: range, node: Node) -> list[Node]:
    """The largest nodes under `node` that lie within consecutive shards, in their order."""
    first, stop = node
    if own.start <= first and stop <= own.stop:
        return [node]
    if own.stop <= first or stop <= own.start:
        return []
    return [found for half in _halves(node) for found in _nodes_within(own, half)]


class ShardSum:
    """Adds up one vector of each shard.

    Parameters
    ----------
    shards : int
    communicator : Communicator

    Attributes
    ----------
    own : range
        The shards of this rank.
    """

    def __init__(self, shards: int, communicator: Communicator) -> None:
        self.communicator, self.shards = communicator, shards
        size = communicator.size
        ranges = [own_shards(shards, rank, size) for rank in range(size)]
        self.own = ranges[communicator.rank]
        self.nodes = [_nodes_within(own, (0, shards)) for own in ranges]
        self._sent: dict[str, Any] = {}
        self._spare: dict[tuple[int, int], Any] = {}

    def start(self, name: str, like: Any, size: int, fill: Callable[[int, Any], None]) -> Pending:
        """Add up the own shards and begin to exchange the result.

        Parameters
        ----------
        name : str
            Sums that are under way at the same time have different names.
        like : array
            Its dtype and device are those of the sum.
        size : int
        fill : callable
            `fill(shard, out)` writes the vector of an own shard, (size,); called in their order.

        Returns
        -------
        Pending
            `wait` gives the sum, (size,).
        """
        xp, own = get_array_module(like), self.nodes[self.communicator.rank]
        most = max(map(len, self.nodes))
        sent = self._sent.get(name)
        if sent is None or sent.shape != (most, size):
            sent = self._sent[name] = xp.zeros((most, size), dtype=like.dtype)
        for node, out in zip(own, sent):
            self._add_up(node, out, fill)
        return PendingSum(self, self.communicator.gather(sent))

    def _add_up(self, node: Node, out: Any, fill: Callable[[int, Any], None]) -> None:
        first, stop = node
        if stop - first == 1:
            fill(first, out)
            return
        lower, upper = _halves(node)
        self._add_up(lower, out, fill)
        # at each depth of the tree one upper half is in the making at a time
        key = (stop - first, out.size)
        spare = self._spare.get(key)
        if spare is None or spare.dtype != out.dtype:
            spare = self._spare[key] = get_array_module(out).empty_like(out)
        self._add_up(upper, spare, fill)
        out += spare

    def total(self, gathered: Any) -> Any:
        """The sum of what all ranks gave, (ranks, nodes, size); overwrites it."""
        known = {
            node: gathered[rank, place]
            for rank, nodes in enumerate(self.nodes)
            for place, node in enumerate(nodes)
        }

        def summed(node: Node) -> Any:
            if node in known:
                return known[node]
            lower, upper = _halves(node)
            found = summed(lower)
            found += summed(upper)
            return found

        return summed((0, self.shards))


class PendingSum:
    """A sum of which other ranks' parts are still to come."""

    def __init__(self, of: ShardSum, pending: Pending) -> None:
        self.of, self.pending = of, pending

    def poll(self) -> None:
        """Help the transfer along without waiting."""
        self.pending.poll()

    def wait(self) -> Any:
        """The sum, (size,); it is overwritten by the next one of the same name."""
        return self.of.total(self.pending.wait())
