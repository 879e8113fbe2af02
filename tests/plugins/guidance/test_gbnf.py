"""GBNF: the same texts as llama.cpp's own grammars allow, or an error with its line."""

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from corral_guidance.gbnf import GbnfType, to_lark
from corral_guidance.gbnf_nodes import Alt, Chars, Node, Ref, Rep, Seq
from corral_guidance.gbnf_parser import parse_gbnf
from corral_kernel.contracts import Tokenizer
from corral_kernel.errors import InvalidFormatError

JSON = r"""
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

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"""
ARITHMETIC = r"""
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"""
CHESS = r"""
# Specifies chess moves as a list in algebraic notation, using PGN conventions
# Force first move to "1. ", then any 1-2 digit number after, relying on model to follow the pattern
root    ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+
move    ::= (pawn | nonpawn | castle) [+#]?
# piece type, optional file/rank, optional capture, dest file & rank
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
# optional file & capture, dest file & rank, optional promotion
pawn    ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle  ::= "O-O" "-O"?
"""
LIST = r"""
root ::= item+
# Excludes various line break characters
item ::= "- " [^\r\n\x0b\x0c\x85\u2028\u2029]+ "\n"
"""
JAPANESE = r"""
# A probably incorrect grammar for Japanese
root        ::= jp-char+ ([ \t\n] jp-char+)*
jp-char     ::= hiragana | katakana | punctuation | cjk
hiragana    ::= [ぁ-ゟ]
katakana    ::= [ァ-ヿ]
punctuation ::= [、-〾]
cjk         ::= [一-鿿]
"""
C = r"""
root ::= (declaration)*
declaration ::= dataType identifier "(" parameter? ")" "{" statement* "}"
dataType  ::= "int" ws | "float" ws | "char" ws
identifier ::= [a-zA-Z_] [a-zA-Z_0-9]*
parameter ::= dataType identifier
statement ::=
    ( dataType identifier ws "=" ws expression ";" ) |
    ( identifier ws "=" ws expression ";" ) |
    ( "return" ws expression ";" ) |
    ( "while" "(" condition ")" "{" statement* "}" ) |
    ( singleLineComment )
condition ::= expression relationOperator expression
relationOperator ::= ("<=" | "<" | "==" | "!=" | ">=" | ">")
expression ::= term (("+" | "-") term)*
term ::= factor(("*" | "/") factor)*
factor ::= identifier | number | unaryTerm | funcCall | parenExpression
unaryTerm ::= "-" factor
funcCall ::= identifier "(" (expression ("," ws expression)*)? ")"
parenExpression ::= "(" ws expression ws ")"
singleLineComment ::= "//" [^\n]* "\n"
number ::= [0-9]+
ws ::= ([ \t\n]+)
"""


def gbnf(grammar: str) -> dict[str, Any]:
    return {"type": "gbnf", "grammar": grammar}


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (
            JSON,
            ['{"a": [1, 2.5e3, "x\\n\\u00e9"], "b": {} }', "{}", '{\n  "é": null\n}'],
            ["[1]", '{"a": 01}', '{"a" 1}', '{"a": "\n"}'],
        ),
        (
            ARITHMETIC,
            ["a=1\n", "foo_1 *(b +3 )=\n5\nx=y \n\n\n", "( a)=2\n"],
            ["a=1", "A=1\n", "1a=2\n", "a + b=1\n"],
        ),
        (
            CHESS,
            ["1. e4 e5\n2. Nf3 Nc6\n", "1. O-O-O a8=Q+\n10. Rd1xe5 exd5#\n"],
            ["1. e4 e5\n", "2. e4 e5\n", "1. e9 e5\n2. a1 a1\n", "1. O-O-O-O e5\n2. a1 a1\n"],
        ),
        (LIST, ["- one\n- 🦙 two\n"], ["- a", "-a\n", "- a\x0bb\n", "- \u2028\n", "- \n"]),
        (JAPANESE, ["ぁヿ、一", "ぁ ァ"], ["a", " ぁ", "ぁ  ァ"]),
        (
            C,
            [
                "int main(){x = y+1*2;}",
                "int f(int a){return  (\n1 );}",
                "int whiled(){whilex = 1;while(a<=1){//hi\n}}",
                "int i(){returned = 1;intx = int;}",
            ],
            ["int main()", "int 1a(){}", "intmain(){}", "int m(){while(a=<1){}}"],
        ),
        ('root ::= [a-z]* "a"', ["a", "za", "aaaa"], ["", "z", "az"]),
        ('root ::= .+ "end"', ["x\nend", "endend"], ["end", "xen"]),
        ("root ::= [\\]a-] [^\\n-] [^]?", ["]b", "-\t", "a]"], ["b", "a\n", "a-", "x]"]),
        ('root ::= "a"{2} "b"{1,} "c"{0,2} "d"{0}', ["aab", "aabbcc"], ["ab", "aabccc", "aabd"]),
        ('root ::= "\\x41\\u00ac\\U0001F999\\t\\\\\\"\\[\\]"', ['A¬🦙\t\\"[]'], ["A", "\\x41"]),
        ('root ::= "/" [/] "\\n#" # "not this"', ["//\n#"], ['//\n# "not this"']),
        ('root ::= "a"\n  | "b"\n\nb ::= "c"', ["a", "b"], ["c", "ab"]),
        ('root ::= left\nleft ::= left "+" num | num\nnum ::= [0-9]+', [
            "1", "1+22+3",
        ], ["+1", "1+"]),
        ('Root ::= "A"\nroot ::= Root rOOT\nrOOT ::= "b"', ["Ab"], ["A", "AA"]),
        ('root ::= "" | "a"', ["", "a"], ["aa"]),
        ("root ::= [^\\x00-\\uD7FF]", ["\ue000", "🦙"], ["a", "\ud7ff"]),
    ],
    ids=[
        "json", "arithmetic", "chess", "list", "japanese", "c", "greedy", "dot", "class", "times",
        "escapes", "slash", "lines", "left", "case", "empty", "surrogates",
    ],
)  # fmt: skip
def test_texts_are_allowed_as_llama_cpp_has_it(
    tokenizer: Tokenizer,
    takes: Callable[..., bool],
    grammar: str,
    good: list[str],
    bad: list[str],
) -> None:
    kind = GbnfType()
    kind.check(gbnf(grammar))
    for text in good:
        assert takes(kind, gbnf(grammar), text), text
    for text in bad:
        assert not takes(kind, gbnf(grammar), text), text


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("root ::= a", "line 1: there is no rule a"),
        ('start ::= "a"', "there is no rule named root"),
        ('root ::= "a"\n\nroot ::= "b"', "line 3: there is a rule root already"),
        ('root ::= "a"\nb = "c"', "line 2: wanted ::= after b"),
        ('root ::= "a\n', 'line 1: the " that begins here is not closed'),
        ("root ::= [a", r"line 1: the \[ that begins here is not closed"),
        ('root ::= ("a"\n', r"line 1: this group is not closed"),
        ('root ::= "a")', r"line 1: '\)' is not understood here"),
        ('root ::= "\\q"', r"line 1: the escape \\q is not known"),
        ('root ::=\n  "\\uD800"', r"line 2: there is no character \\uD800"),
        ("root ::= [z-a]", "line 1: a range that ends before it begins"),
        ("root ::= []", "line 1: no character is in this class"),
        ('root ::= "a"{2,1}', "line 1: at least 2 times and at most 1"),
        ('root ::= "a"{,3}', r"line 1: wanted \{n\}, \{n,\} or \{n,m\}"),
        ('root ::= "a"{1,1000000000}', "line 1: wanted|line 1: at most 100,000 times"),
        ('root ::= "a"**', "line 1: what is repeated is repeated again"),
        ("root ::= <think> [a-z]", "line 1: tokens cannot be named"),
        ('root ::= "a"\n"b"', "line 2: wanted the name of a rule, found '\"'"),
        (f'root ::= {"(" * 101}"a"{")" * 101}', "line 1: groups are nested over 100 levels"),
        ("root ::= " + "|".join(['"a"'] * 2002), "line 1: over 2,000 alternatives"),
        ("\n".join(f'r{i} ::= "a"' for i in range(2001)), "line 2001: over 2,000 rules"),
        ('root ::= "' + "a" * 70_000 + '"', "it has 70,011 bytes: at most 65,536"),
        ("", "wanted a text, and not the empty one"),
    ],
    ids=lambda value: value[:24] if "\n" not in value else value[:8],
)  # fmt: skip
def test_what_is_no_gbnf_is_refused_with_its_line(grammar: str, message: str) -> None:
    with pytest.raises(InvalidFormatError, match=f"format at #/grammar: .*({message})"):
        GbnfType().check(gbnf(grammar))


def test_a_rule_that_allows_nothing_is_refused(tokenizer: Tokenizer, padded: int) -> None:
    for grammar in ("root ::= root", 'root ::= "a" root', "root ::= a\na ::= root a"):
        GbnfType().check(gbnf(grammar))
    with pytest.raises(InvalidFormatError, match="there is no text that it allows"):
        GbnfType().compile(gbnf("root ::= root"), tokenizer, padded)


def test_json_is_read_by_the_lexeme() -> None:
    lark = to_lark(parse_gbnf(JSON))
    assert len(lark.splitlines()) == 4
    assert r"[\x{22}](?:" in lark  # a whole string, not its characters


def test_a_grammar_whose_rules_double_stays_small() -> None:
    rules = [f'r{i} ::= r{i + 1} "x" r{i + 1}' for i in range(60)]
    lark = to_lark(parse_gbnf("\n".join(["root ::= r0", *rules, 'r60 ::= "a"'])))
    assert len(lark) < 20_000


# ------------------------------------------------------------- against a plain recognizer


def ends(  # noqa: C901 - a case for each kind of node
    node: Node, text: str, rules: Mapping[str, Node]
) -> Callable[[Node, int], frozenset[int]]:
    """Where a node may end that begins at a place: by fixpoint, so that any recursion will do."""
    found: dict[tuple[int, int], set[int]] = {}
    nodes: dict[int, Node] = {}

    def step(part: Node, at: int) -> set[int]:
        nodes[id(part)] = part
        return found.setdefault((id(part), at), set())

    def grow(part: Node, at: int) -> set[int]:
        if isinstance(part, Chars):
            inside = at < len(text) and any(a <= ord(text[at]) <= b for a, b in part.ranges)
            return {at + 1} if inside else set()
        if isinstance(part, Ref):
            return step(rules[part.name], at)
        if isinstance(part, Alt):
            return {end for inner in part.parts for end in step(inner, at)}
        if isinstance(part, Seq):
            places = {at}
            for inner in part.parts:
                places = {end for place in places for end in step(inner, place)}
            return places
        assert isinstance(part, Rep)
        places, reached = {at}, {at} if part.least == 0 else set()
        for count in itertools.count(1):
            places = {end for place in places for end in step(part.part, place)}
            new = places - reached if count >= part.least else places
            if count >= part.least:
                reached |= places
            if not new or count == part.most or count > len(text) + part.least:
                return reached
        raise AssertionError

    step(node, 0)
    while True:
        before = {key: len(value) for key, value in found.items()}
        for (key, at), value in list(found.items()):
            value.update(grow(nodes[key], at))
        if before == {key: len(value) for key, value in found.items()}:
            return lambda part, at: frozenset(found[id(part), at])


def test_the_plain_recognizer_is_right() -> None:
    rules = parse_gbnf('root ::= left "!"?\nleft ::= left "a" | "b" | "c"{2,3}')
    for text, right in (("b", True), ("baa!", True), ("cc", True), ("c", False), ("a", False)):
        assert (len(text) in ends(rules["root"], text, rules)(rules["root"], 0)) == right


def random_grammars(count: int) -> Iterator[str]:
    draw = random.Random(7)

    def expression(depth: int) -> str:
        if depth == 0 or draw.random() < 0.25:
            return draw.choice(['"a"', '"b"', '"ab"', '"aab"', "[ab]", "[b]", "one", "two", '""'])
        inner = [expression(depth - 1) for _ in range(draw.randint(1, 3))]
        shape = draw.random()
        if shape < 0.4:
            return " ".join(inner)
        if shape < 0.7:
            return f"({' | '.join(inner)})"
        return f"({inner[0]}){draw.choice(['*', '+', '?', '{2}', '{1,2}', '{2,}'])}"

    for _ in range(count):
        one, two = expression(1), expression(2)
        yield f"root ::= {expression(3)}\none ::= {one}\ntwo ::= {two}"


@cache
def words(longest: int) -> list[str]:
    return ["".join(word) for n in range(longest + 1) for word in itertools.product("ab", repeat=n)]


def test_random_grammars_allow_what_a_plain_recognizer_says(
    pieces: Tokenizer, takes_texts: Callable[..., list[bool]]
) -> None:
    compared = 0
    for grammar in random_grammars(150):
        rules = parse_gbnf(grammar)
        wanted = [
            len(word) in ends(rules["root"], word, rules)(rules["root"], 0) for word in words(5)
        ]
        if not any(wanted):
            continue  # it allows nothing, or nothing short
        got = takes_texts(to_lark(rules), words(5))
        wrong = [word for word, a, b in zip(words(5), wanted, got, strict=True) if a != b]
        assert not wrong, f"{grammar}\n{to_lark(rules)}"
        compared += 1
    assert compared > 100
