"""
Tests for L{punchd.hooks.output}.
"""

from hypothesis import given
from hypothesis import strategies as st

from punchd.hooks.output import MOST_LINE, MOST_LINES, Output


def linesOf(*pieces: bytes) -> tuple[str, ...]:
    output = Output()
    for piece in pieces:
        output.take(piece)
    return output.close()


def test_linesAreLinesHoweverTheyCome() -> None:
    assert linesOf(b"on", b"e\ntw", b"", b"o\n\nthree") == ("one", "two", "three")


def test_theLatestAreKept() -> None:
    lines = linesOf(*(b"%d\n" % number for number in range(100)))
    assert lines == ("(80 lines before that)", *(str(number) for number in range(80, 100)))


def test_nothingMovesACursorOrLooksLikeALineOfTheLog() -> None:
    assert linesOf(b"\x1b[2Jred\r\xff\n\tin\xc2\x85out\n") == ("�[2Jred��", "        in�out")


@given(st.lists(st.binary(max_size=2 * MOST_LINE), max_size=60))
def test_itIsBoundedHoweverMuchComes(pieces: list[bytes]) -> None:
    output = Output()
    for piece in pieces:
        output.take(piece)
        assert len(output._last) <= MOST_LINE
    lines = output.close()
    assert output.size == sum(map(len, pieces))
    assert len(lines) <= MOST_LINES + 1
    assert all(len(line) <= 8 * MOST_LINE and line.isprintable() for line in lines)
