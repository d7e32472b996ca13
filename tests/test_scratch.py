"""What a throw-away database is called, and which options make it like the original."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from infra.db import scratch

MOMENT = datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("base", "kept"),
    [("mordeaux", "mordeaux"), ("x" * 63, "x" * 29), ("ä" * 31, "ä" * 14), ("a_scratch_b", "a_scratch_b")],
)
def test_a_name_is_known_again_and_fits_into_63_bytes(base: str, kept: str) -> None:
    name = scratch.new_name(base, MOMENT)
    assert len(name.encode()) <= 63
    found = scratch.NAME.fullmatch(name)
    assert found
    assert (found["base"], found["time"]) == (kept, "20260131T120005Z")


def test_two_names_of_one_second_differ() -> None:
    assert scratch.new_name("a", MOMENT) != scratch.new_name("a", MOMENT)


@pytest.mark.parametrize(
    ("row", "options"),
    [
        (
            ("UTF8", "C", "C", "b", "C.UTF-8", None, None),
            "ENCODING E'UTF8' LC_COLLATE E'C' LC_CTYPE E'C' LOCALE_PROVIDER E'builtin' BUILTIN_LOCALE E'C.UTF-8'",
        ),
        (
            ("UTF8", "de_DE", "de_DE", "c", None, None, "fast disk"),
            "ENCODING E'UTF8' LC_COLLATE E'de_DE' LC_CTYPE E'de_DE' LOCALE_PROVIDER E'libc' TABLESPACE \"fast disk\"",
        ),
        (
            ("UTF8", "C", "C", "i", "de", "&a < b'", None),
            "ENCODING E'UTF8' LC_COLLATE E'C' LC_CTYPE E'C' LOCALE_PROVIDER E'icu' ICU_LOCALE E'de'"
            " ICU_RULES E'&a < b'''",
        ),
    ],
)
def test_it_sorts_text_like_the_original(row: tuple[str | None, ...], options: str) -> None:
    assert scratch._like(row) == f"TEMPLATE template0 {options}"
