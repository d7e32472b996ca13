"""What a person reads on a narrow terminal, and can copy from it."""

from __future__ import annotations

import pytest

from infra.db.layout import fold, size

COMMAND = "invoke migrate-resolve 004 --applied"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param("short:  invoke migrate", ["short:  invoke migrate"], id="what fits stays on its line"),
        pytest.param(
            "one two three four five six seven eight",
            ["one two three four five six", "seven eight"],
            id="words are not broken",
        ),
        pytest.param(
            "  one two three four five six seven eight",
            ["  one two three four five six", "    seven eight"],
            id="an item of a list hangs",
        ),
        pytest.param(
            "      one two three four five six",
            ["      one two three four five", "      six"],
            id="what to do next is a block",
        ),
        pytest.param(
            f"Its file stands for it:  {COMMAND}",
            ["Its file stands for it:", f"  {COMMAND}"],
            id="a command after its colon has a line of its own",
        ),
        pytest.param(
            f"      {COMMAND}   see every file and its state",
            [f"      {COMMAND}", "        see every file and its", "        state"],
            id="its meaning goes below it",
        ),
        pytest.param(
            "Try:  GRANT CREATE ON SCHEMA public TO ann;  or set DB_USER to the owner.",
            ["Try:", "  GRANT CREATE ON SCHEMA public TO ann;", "  or set DB_USER to the owner."],
            id="words go on after it",
        ),
        pytest.param(
            "  001_one  applied  2026-01-31 12:00  ann",
            ["  001_one  applied", "    2026-01-31 12:00  ann"],
            id="columns that do not fit go below",
        ),
        pytest.param(
            "Put it below '-- migrate: x y', the history's first line",
            ["Put it below", "'-- migrate: x y', the", "history's first line"],
            id="what is quoted stays together",
        ),
        pytest.param("a " + "x" * 40, ["a", "x" * 40], id="a long word stays whole"),
        pytest.param("  - " + "x " * 20, ["  - " + "x " * 20], id="a line of a difference is left as it is"),
        pytest.param("a\n\nb", ["a", "", "b"], id="empty lines stay"),
    ],
)
def test_a_long_line_is_folded_between_words_and_never_inside_a_command(text: str, lines: list[str]) -> None:
    assert fold(text, 30).split("\n") == lines


def test_where_there_is_no_terminal_nothing_is_folded() -> None:
    assert fold("word " * 100, 0) == "word " * 100


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 kB"), (12_300, "12 kB"), (999_400, "999 kB"), (3_449_000, "3.4 MB"), (2 * 10**9, "2,000.0 MB")],
)
def test_a_size_is_said_in_the_unit_that_shows_it(count: int, words: str) -> None:
    assert size(count) == words
