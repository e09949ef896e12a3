"""Which requests have run out of time."""

from __future__ import annotations

import heapq


class Deadlines:
    """The moments by which requests must have ended, on whatever clock their owner reads."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # has those of ended requests too, until they are met or swept out

    def set(self, request_id: str, moment: float) -> None:
        """Give a request until `moment`."""
        self._due[request_id] = moment
        heapq.heappush(self._heap, (moment, request_id))
        if len(self._heap) > 2 * len(self._due) + 64:
            self._heap = [(moment, request_id) for request_id, moment in self._due.items()]
            heapq.heapify(self._heap)

    def forget(self, request_id: str) -> None:
        """The request has ended; unknown ones are ignored."""
        self._due.pop(request_id, None)

    def pop_expired(self, now: float) -> list[str]:
        """Requests whose moment has come, earliest first; they are forgotten."""
        expired = []
        while self._heap and self._heap[0][0] <= now:
            moment, request_id = heapq.heappop(self._heap)
            if self._due.get(request_id) == moment:
                del self._due[request_id]
                expired.append(request_id)
        return expired
