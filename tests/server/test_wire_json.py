from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.wire_json import text_to_json, to_json


@given(st.text() | st.text(alphabet='\x85\u2028\u2029\n\r\\"\0a'))
def test_a_text_is_written_as_any_other_value_in_one_line_and_read_back(text: str) -> None:
    written = text_to_json(text)
    assert written == to_json(text)
    assert json.loads(written) == text
    assert len(written.decode().splitlines()) == 1


@pytest.mark.parametrize("value", ["\ud800", "a\udfff"])
def test_half_a_surrogate_pair_is_refused(value: str) -> None:
    for write in (text_to_json, to_json):
        with pytest.raises(ValueError, match="surrogates"):
            write(value)
