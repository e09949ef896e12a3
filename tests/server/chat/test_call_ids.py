from __future__ import annotations

import re

from server.chat.call_ids import CallIds


def test_ids_are_unlike_each_other_and_those_of_the_conversation() -> None:
    ids = CallIds(["functions.f:0"])
    drawn = [ids.name(None) for _ in range(100)]
    assert len(set(drawn)) == 100
    assert all(re.fullmatch(r"call_[A-Za-z0-9]{24}", each) for each in drawn)


def test_the_models_own_id_is_kept_while_it_is_free_and_of_a_usual_form() -> None:
    ids = CallIds(["functions.f:0"])
    assert ids.name("functions.f:1") == "functions.f:1"
    for own in ("functions.f:0", "functions.f:1", "", "a b", "x" * 65):
        assert ids.name(own).startswith("call_")
