"""GBNF in Lark: what is accepted must be what llama.cpp's notation says."""

from __future__ import annotations

import pytest

from engine.constraints.gbnf import gbnf_to_lark
from engine.constraints.gbnf_parser import MOST_DEPTH
from engine.errors import InvalidRequestError
from engine.types import GrammarKind
from tests.engine.constraints.test_grammar import accepts, refusal

JSON = r"""
# JSON, as it is usually written in this notation
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"""

LIST = 'root ::= ("- " [^\\r\\n]+ "\\n")+'
CHESS = r"""root ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")*
move ::= (pawn | nonpawn | castle) [+#]?
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
castle ::= "O-O" "-O"?"""
ARITHMETIC = """root ::= (expr "=" num "\\n")+
expr ::= term ([-+*/] term)*
term ::= num | "(" expr ")"
num ::= [0-9]+"""


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (
            JSON,
            ['{"a": [1, {"b": null}], "c": "x\\u00e9"}', "{}", '{"é":-1.5e+3}'],
            ["[]", '{"a"}', '{"a":01}', '{"a":1,}'],
        ),
        (LIST, ["- a\n", "- a\n- bé/\n"], ["- a", "-a\n", "- \n", ""]),
        (CHESS, ["1. e4 e5\n", "1. e4 e5\n2. Nf3 O-O-O+\n"], ["1. e9 e5\n", "2. e4 e5\n"]),
        (ARITHMETIC, ["1+2=3\n", "(1+2)*34=5\n((7))=7\n"], ["1+=3\n", "(1=3\n", "1=2"]),
        ('root ::= [a-z]+ "end" [0-9]', ["endend1", "xend1"], ["end1", "xen1"]),  # no lexeme takes too much
        ('root ::= "a" | "ab" | "abc" "d"?', ["a", "ab", "abc", "abcd"], ["abd", ""]),
        ('root ::= a b\na ::= "x"*\nb ::= "xy"', ["xy", "xxxy"], ["xx", "y"]),
        ('root ::= "a"{2} "b"{1,} "c"{,2} "d"{1,2}', ["aabd", "aabbbccdd"], ["abd", "aabcccd", "aab"]),
        ('root ::= [^a] . "\\x41\\u00e9\\U0001F600"', ["b\nAé😀", "éaAé😀"], ["abAé😀", "bAé😀"]),
        ("root ::= [-a] [a-] [\\]x] [\\[\\\\/]", ["-a]/", "a-x[", "aax\\"], ["b-x[", "-a[/"]),
        ('root ::= "/" ("a" |\n "b" ) # a comment ) "\n  \n', ["/a", "/b"], ["/", "/c"]),
        ('root ::= one-Rule Two\none-Rule ::= "1"\nTwo ::= "2" Two | ""', ["1", "122"], ["", "2"]),
        ('root ::= "(" root ")" | ""', ["()", "((()))"], ["(", "(()", ")("]),
        ('root ::= s\ns ::= "a" s "b" | "ab"', ["ab", "aaabbb"], ["aab", "abb", ""]),
    ],
)
def test_grammars(grammar: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not accepts(GrammarKind.GBNF, grammar, text)] == []
    assert [text for text in bad if accepts(GrammarKind.GBNF, grammar, text)] == []


def test_what_does_not_recur_becomes_one_regular_expression() -> None:
    assert gbnf_to_lark(CHESS).startswith("start: /")
    assert "\n" not in gbnf_to_lark(CHESS)
    assert "\n" in gbnf_to_lark(ARITHMETIC)


@pytest.mark.parametrize(
    ("grammar", "named"),
    [
        ("", "'root'"),
        ('start ::= "a"', "'root'"),
        ("root ::= missing", "'missing'"),
        ('root = "a"', "'::='"),
        ('root ::= "a" )', "')'"),
        ('root ::= ("a"\nother ::= "b"', "not closed"),
        ('root ::= "a', "not closed"),
        ("root ::= [a-z", "not closed"),
        ("root ::= [z-a]", "empty"),
        ('root ::= "\\q"', "'\\q'"),
        ('root ::= "\\ud800"', "no character"),
        ('root ::= "\\u12"', "'\\u'"),
        ('root ::= "a"{x}', "number of times"),
        ('root ::= "a"{}', "number of times"),
        ('root ::= "a"{3,2}', "times"),
        ('root ::= "a"{100000}', "times"),
        ('root ::= "a"**', "parentheses"),
        ("root ::= <think>", "tokens"),
        ("root ::= !<[5]>", "tokens"),
        ('root ::= "a"\nroot ::= "b"', "second rule 'root'"),
        ('root ::= "a"\n\n$', "line 3"),
        ("root ::= " + "(" * 100 + '"a"' + ")" * 100, "nested"),
        ('root ::= ""', "empty answer"),
        ("root ::= root", ""),
    ],
)
def test_grammars_that_cannot_be_used(grammar: str, named: str) -> None:
    assert named in refusal(GrammarKind.GBNF, grammar)


def test_rules_that_name_each_other_in_a_long_row() -> None:
    rules = [f'r{number} ::= "a" r{number + 1}' for number in range(3000)]
    assert "a" * 3000 + "b" in gbnf_to_lark("\n".join(["root ::= r0", *rules, 'r3000 ::= "b"']))


def test_rules_that_grow_when_put_together_are_refused() -> None:
    rules = [f"r{number} ::= r{number + 1} r{number + 1}" for number in range(60)]
    with pytest.raises(InvalidRequestError, match="too large"):
        gbnf_to_lark("\n".join(["root ::= r0", *rules, 'r60 ::= "b"']))


def test_parentheses_may_be_nested_as_deep_as_is_said() -> None:
    assert gbnf_to_lark("root ::= " + "(" * MOST_DEPTH + '"a"' + ")" * MOST_DEPTH)
