"""The text of SQL: one for all statements that differ only in their literals, and none of those."""

from __future__ import annotations

import ctypes
import functools
import re
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.host import TEXT, WINDOW, compile_host

POSTGRESQL, MYSQL, BACKSLASH = 0, 1, 2


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="kernob-sql-") as directory:
        target = Path(directory) / "sql.so"
        compile_host("sql.c", target, sys.executable, "-m", "ziglang", "cc", "-O2", "-shared")
        library = ctypes.CDLL(str(target))
    library.normalize.restype = ctypes.c_uint32
    library.fingerprint.restype = ctypes.c_uint64
    return library


def normalize(statement: bytes, dialect: int = POSTGRESQL, behind: bytes = b"'") -> bytes:
    """Returns the text of a statement; `behind` fills the window after it."""
    window = (statement[:WINDOW] + behind * 2048)[: WINDOW + 64]
    text = ctypes.create_string_buffer(TEXT)
    length = _library().normalize(window, min(len(statement), WINDOW), dialect, text)
    return text.raw[:length]


def fingerprint(statement: bytes, dialect: int = POSTGRESQL) -> int:
    """Returns the fingerprint of a statement's text."""
    normalize(statement, dialect)
    return int(_library().fingerprint())


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (b"", b""),
        (b"SELECT 1", b"SELECT ?"),
        (b" select  a ,b\n\tfrom t1 ; ", b"select a, b from t1"),
        (b"SELECT 1; ;SELECT 2;", b"SELECT ?; SELECT ?"),
        (b"a=1.5e-3+.5e+10-0x1F-1_000", b"a=?+?-?-?"),
        (b"a1b2 = 12abc", b"a1b2 = ?"),
        (b"t.c1 = 5 AND t.\"C 2\" = 5", b't.c1 = ? AND t."C 2" = ?'),
        (b"SELECT.5", b"SELECT?"),
        (b"a = -5 and b=-5 or c > - 5", b"a = ? and b=? or c > - ?"),
        (b"a - 5, a -5, a-5, (-5), a - -5", b"a - ?, a -?, a-?, (?), a - ?"),
        (b"x IN (1,2 , 3)", b"x IN (?)"),
        (b"x IN (1, 2, y, 3)", b"x IN (?, y, ?)"),
        (b"f(1, 2+3)", b"f(?, ?+?)"),
        (b"INSERT INTO t(a,b) VALUES (1,'x'),( 2 ,'y'), (3,'z')",
         b"INSERT INTO t(a, b) VALUES (?)"),
        (b"VALUES(1, 'x')", b"VALUES(?)"),
        (b"((1, 2), (3, 4))", b"((?))"),
        (b"'it''s', 'x'", b"?, ?"),
        (b"E'it\\'s' , e'\\\\' || 'x\\' || 'y'", b"?, ? || ? || ?"),
        (b"x'1F' B'01' N'n' U&'d\\0061'", b"? ? ? U&?"),
        (b"date '2020-01-01'::date", b"date ?::date"),
        (b"$$it's $x$ a$$ || $tag$ $$ $ta $tagg$ $tag$ || $a", b"? || ? || ?"),
        (b"$1 $22 :x :x.y ?1 ? @p", b"? ? ? ? ? ? ?"),
        (b"a::int := @@global.x", b"a::int := @@global.x"),
        (b"f(*) -- it's\nx /* it's /* nested */ y */ z", b"f(*) x z"),
        (b"a/**/b /*/ c */ d", b"a b d"),
        (b'"A b""c" "', b'"A b""c" ?'),
        (b"a #> b #- 'x'", b"a #> b #- ?"),
        (b"data ? 'key' ?| x", b"data ? ? ?| x"),
        ("naïve = 'é' -- ü".encode(), "naïve = ?".encode()),
        (b"'not ended", b"?"),
        (b"a $t$ not ended $", b"a ?"),
        (b"a /* not ended '", b"a"),
    ],
)  # fmt: skip
def test_postgresql(statement: bytes, text: bytes) -> None:
    assert normalize(statement) == text


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (b'SELECT "it\'s", \'x\\\'y\', "a""b"', b"SELECT ?, ?, ?"),
        (b"SELECT `a b`,`c``d` # it's\nFROM `t`", b"SELECT `a b`, `c``d` FROM `t`"),
        (b"5--3 -- it's", b"?--?"),
        (b"a = @x and @@sql_mode = 'y'", b"a = ? and @@sql_mode = ?"),
        (b"$a = a$b and db.1a = 1", b"$a = a$b and db.1a = ?"),
        (b"/* a /* b */ c", b"c"),
        (b"_utf8'x' X'1f'", b"_utf8? ?"),
    ],
)
def test_mysql(statement: bytes, text: bytes) -> None:
    assert normalize(statement, MYSQL | BACKSLASH) == text


def test_backslash_escapes_only_where_they_are() -> None:
    assert normalize(b"'a\\' || x || 'y'") == b"? || x || ?"
    assert normalize(b"'a\\' || x || 'y'", BACKSLASH) == b"?y?"


def test_a_window_that_ends_first() -> None:
    filler = b"x" * (WINDOW - 8)
    assert normalize(filler + b" = 'secret'") == filler + b" = ?"
    assert normalize(filler + b" = 123456789") == filler + b" = ?"
    assert normalize(b"a," * WINDOW) == (b"a, " * WINDOW)[:TEXT]


def test_only_what_differs_has_another_fingerprint() -> None:
    assert fingerprint(b"SELECT 1") == fingerprint(b" SELECT  'x' ;")
    assert fingerprint(b"SELECT a") != fingerprint(b"SELECT b")
    longer = b"SELECT " + b"a" * 600
    assert fingerprint(longer + b"b") != fingerprint(longer + b"c")


DIALECTS = st.sampled_from([POSTGRESQL, MYSQL | BACKSLASH, MYSQL, BACKSLASH])
PIECES = st.sampled_from(
    [b"'", b'"', b"`", b"$$", b"$a$", b"E'", b"\\", b"--", b"/*", b"*/", b"#", b"\n", b" ", b"(",
     b")", b",", b";", b"?", b"$1", b":", b"@", b".", b"-", b"+", b"1", b"0x", b"1e", b"a", b"e",
     b"=", b"(?, ", b"), (", b"\xc3\xa9"]
)  # fmt: skip


@given(pieces=st.lists(PIECES, max_size=40), dialect=DIALECTS)
@settings(max_examples=500, deadline=None)
def test_the_text_of_a_text_is_itself(pieces: list[bytes], dialect: int) -> None:
    # MySQL's `--` is a comment or two signs, by what follows.
    text = normalize(b"".join(pieces), dialect)
    assume(not (dialect & MYSQL and b"--" in text))
    assert normalize(text, dialect) == text


@given(pieces=st.lists(PIECES, max_size=40), dialect=DIALECTS)
@settings(max_examples=150, deadline=None)
def test_what_lies_behind_is_not_looked_at(pieces: list[bytes], dialect: int) -> None:
    statement = b"".join(pieces)
    texts = {normalize(statement, dialect, behind) for behind in (b"'", b"*", b"1", b"\0", b"$")}
    assert len(texts) == 1


def quoted(secret: str) -> st.SearchStrategy[tuple[str, str]]:
    """The same literal, twice: once as it is and once with something else in it."""
    return st.sampled_from(
        [
            (f"'{secret}'", "'x'"),
            (f"'it''s {secret}'", "''"),
            (f"E'it\\'s {secret}'", "E'x'"),
            (f"$${secret}$$", "$$x$$"),
            (f"$tag$'{secret}$$'$tag$", "$tag$$tag$"),
            ("-12.5e-3", "7"),
            ("0xDEADBEEF", "1"),
            ("$1", ":name"),
            (f"('{secret}', 2, 3)", "(1)"),
            (f"'{secret}'::text", "1::text"),
        ]
    )


WORDS = st.sampled_from(
    ["SELECT a FROM t WHERE b =", "AND (", "x IN (", ",", ") =", "- (", "/* c */ =", "-- d\n =",
     '"Q q" <', "::int =", "||"]
)  # fmt: skip


@given(parts=st.lists(st.tuples(WORDS, quoted("S3CRET")), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_literals_change_nothing(parts: list[tuple[str, tuple[str, str]]]) -> None:
    one, other = (" ".join(f"{word} {pair[i]}" for word, pair in parts) for i in (0, 1))
    assert fingerprint(one.encode()) == fingerprint(other.encode())
    assert b"S3CRET" not in normalize(one.encode())


@given(
    before=st.lists(WORDS, max_size=30),
    literal=quoted("S3CRET" * 40),
    cut=st.integers(0, 2000),
    dialect=st.sampled_from([POSTGRESQL, BACKSLASH]),
)
@settings(max_examples=300, deadline=None)
def test_secrets_stay_out_wherever_the_statement_ends(
    before: list[str], literal: tuple[str, str], cut: int, dialect: int
) -> None:
    statement = f"{' '.join(before)} {literal[0]}".encode()[:cut]
    assert not re.search(rb"S3C|RET", normalize(statement, dialect))
