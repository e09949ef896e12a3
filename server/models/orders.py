"""What whoever runs the server wants done with models, in the order it was asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.config import EngineConfig
from engine.errors import LoadConflictError
from server.models.slot import Listener


@dataclass(slots=True, eq=False)
class Order:
    """What whoever runs the server wants done; comes before what requests want.

    Attributes:
        name, config: what to load; None unloads.
        done: resolved when it has been carried out.
        force: do not wait for running requests.
        begun: whether it is being carried out.
        listeners: told how far loading is.
    """

    name: str | None
    config: EngineConfig | None
    done: asyncio.Future[None]
    force: bool = False
    begun: bool = False
    listeners: list[Listener] = field(default_factory=list)


class OrderBook:
    """Orders that have not been carried out, the one that is next, or under way, first."""

    def __init__(self) -> None:
        self._orders: deque[Order] = deque()

    @property
    def first(self) -> Order | None:
        """The order to carry out."""
        return self._orders[0] if self._orders else None

    @property
    def load(self) -> Order | None:
        """The order to load a model, of which there is one at a time."""
        return next((order for order in self._orders if order.name is not None), None)

    def add(self, order: Order) -> None:
        """Put an order behind the others."""
        self._orders.append(order)

    def settle(self, order: Order, error: Exception | None = None) -> None:
        """Say that an order has been carried out, or why it could not be, and forget it."""
        self._orders.remove(order)
        if error is None:
            order.done.set_result(None)
        else:
            order.done.set_exception(error)
            order.done.exception()  # looked at, also where the one who ordered has gone

    def cancel_load(self) -> str | None:
        """Take back the load that waits for another order; the name of its model, None if there is none."""
        order = self.load
        if order is None or order.begun:
            return None
        self.settle(order, LoadConflictError("Loading was cancelled."))
        return order.name

    def refuse(self, error: Callable[[], Exception]) -> None:
        """Carry out none of them; each gets an error of its own."""
        for order in tuple(self._orders):
            self.settle(order, error())
