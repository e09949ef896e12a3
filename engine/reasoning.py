"""What a request says about the reasoning a model writes before its answer."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class ReasoningSpec:
    """The block of reasoning that may stand before an answer, told by its markers.

    With one the engine counts the tokens of the reasoning, looks for stop strings in the answer only, and has a grammar
    begin with the answer. Markers that are special tokens must be among the `shown_special_tokens` of the request.

    Attributes:
        start: marker that opens the block, as text.
        end: marker that closes it.
        begun: whether the prompt ends inside the block, so that the answer begins there.
        start_token_ids: how the model writes `start`. It may, where a grammar waits; without them it may not.
        budget: most tokens of reasoning, markers not counted; None means any number.
        closing_token_ids: what is written for the model when the budget is used up; has `end` in it.

    Raises:
        InvalidRequestError: a marker is empty, the budget is negative, or nothing is there to close the block with.
    """

    start: str
    end: str
    begun: bool = False
    start_token_ids: tuple[int, ...] = ()
    budget: int | None = None
    closing_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.start or not self.end:
            raise InvalidRequestError("The markers of reasoning must not be empty.", param="reasoning")
        if self.budget is None:
            return
        if self.budget < 0:
            raise InvalidRequestError(
                f"The budget of reasoning must not be negative, not {self.budget}.", param="budget"
            )
        if not self.closing_token_ids:
            raise InvalidRequestError("A budget of reasoning needs closing_token_ids.", param="closing_token_ids")
