"""The coverage run finds what it is to find."""

from __future__ import annotations

from benchmarks.structured_coverage import END, TOKENS, Case, Instance, Tally, examine, tally
from engine.constraints.grammar import GrammarCompiler, MatcherGrammar
from engine.types import GrammarKind, GrammarSpec

INTEGER = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}, "required": ["a"]}


class Lax(GrammarCompiler):
    """Takes every schema for one that allows anything."""

    def compile(self, spec: GrammarSpec) -> MatcherGrammar:
        return super().compile(GrammarSpec(GrammarKind.JSON_SCHEMA, "true"))


def test_schemas_are_counted_by_what_becomes_of_them() -> None:
    found = tally(
        [
            Case("fine", INTEGER, [Instance({"b": None, "a": 1}, True), Instance({"a": "x"}, False)]),
            Case("refused", {"type": "array", "uniqueItems": True}, [Instance([1], True)]),
            Case("refused too", {"type": "string", "format": "color"}, []),
            Case("stricter", {"type": "string", "format": "time"}, [Instance("23:59:60Z", True)]),
            Case("mislabelled", INTEGER, [Instance({"a": 2}, False)]),
        ]
    )
    assert (found["schemas"], found["compiled"], found["refused"], found["wrong"], found["stricter"]) == (5, 3, 2, 0, 1)
    assert found["refused for"] == {"uniqueItems": 1, "an unknown format": 1}
    assert found["instances whose label jsonschema contradicts"] == 1
    assert found["of them whole"] > 0


def test_a_grammar_that_allows_too_much_is_found_by_instances_and_by_answers_drawn() -> None:
    by_instance, by_answer = Tally(), Tally()
    examine(Case("lax", INTEGER, [Instance({"a": "x"}, False)]), Lax(TOKENS, [END]), by_instance)
    examine(Case("lax", {"const": "never drawn"}, []), Lax(TOKENS, [END]), by_answer)
    assert any("accepted" in each for each in by_instance.wrong)
    assert any("answered" in each for each in by_answer.wrong)
