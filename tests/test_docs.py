"""Comments in, Markdown out."""

from __future__ import annotations

import pytest

from infra.db import docs
from infra.db.docs import Column, Function, Index, Reference, Table
from infra.db.errors import NoMarkers


def column(name: str, kind: str = "uuid", *, nullable: bool = False, key: bool = False, refers: bool = False) -> Column:
    return Column(name=name, type=kind, nullable=nullable, meaning=f"The {name}.", in_key=key, refers=refers)


def table(name: str, *references: Reference) -> Table:
    return Table(name=name, meaning=f"All {name}.", columns=[], indexes=[], references=references)


OWNER = Table(
    name="owners",
    meaning="People.",
    columns=[column("id", key=True), column("note", "text", nullable=True)],
    indexes=[Index("owners_pkey", "unique btree (id)", "By id.")],
    references=[],
)
CAT = Table(
    name="cats",
    meaning="Cats.",
    columns=[
        column("owner_id", key=True, refers=True),
        column("id", key=True),
        column("v", "halfvec(512)", refers=True),
    ],
    indexes=[Index("cats_x", "btree ((a | b))", "A | or\nB.")],
    references=[Reference("owners", "owner_id", cascades=True), Reference("owners", "v", cascades=False)],
)


def test_the_whole_description() -> None:
    assert docs.render([OWNER, CAT], [Function("app.purr(cat uuid)", "Purrs.")]) == (
        """\
```mermaid
erDiagram
    owners ||--o{ cats : "has, and takes along"
    owners ||--o{ cats : "has"
    owners {
        uuid id PK
    }
    cats {
        uuid owner_id PK, FK
        uuid id PK
        halfvec(512) v FK
    }
```

### owners

People.

| column | type | meaning |
| --- | --- | --- |
| `id` | `uuid` | The id. |
| `note` | `text` or null | The note. |

| index | made of | serves |
| --- | --- | --- |
| `owners_pkey` | `unique btree (id)` | By id. |

### cats

Cats.

| column | type | meaning |
| --- | --- | --- |
| `owner_id` | `uuid` | The owner_id. |
| `id` | `uuid` | The id. |
| `v` | `halfvec(512)` | The v. |

| index | made of | serves |
| --- | --- | --- |
| `cats_x` | `btree ((a \\| b))` | A \\| or B. |

### Functions

| function | what it does |
| --- | --- |
| `app.purr(cat uuid)` | Purrs. |"""
    )


def test_a_type_of_several_words_is_one_word_in_the_diagram() -> None:
    odd = Table(name="t", meaning="", columns=[column("c", "double precision[]", key=True)], indexes=[], references=[])
    assert "        double_precision__ c PK\n" in docs.diagram([odd])


def test_tables_follow_those_they_refer_to_and_a_table_alone_comes_last() -> None:
    tables = [
        table("alone"),
        table("b", Reference("c", "x", cascades=False)),
        table("a", Reference("b", "x", cascades=False), Reference("a", "parent", cascades=False)),
        table("c"),
    ]
    assert [each.name for each in docs.in_order(tables)] == ["c", "b", "a", "alone"]


def test_tables_that_refer_to_each_other_in_a_circle_are_all_there() -> None:
    circle = [table("a", Reference("b", "x", cascades=False)), table("b", Reference("a", "x", cascades=False))]
    assert [each.name for each in docs.in_order(circle)] == ["a", "b"]


@pytest.mark.parametrize(
    ("definition", "short"),
    [
        ("CREATE INDEX x ON public.t USING hash (a)", "hash (a)"),
        ("CREATE UNIQUE INDEX x ON public.t USING btree (a) WHERE (b = 'x'::text)", "unique btree (a) WHERE (b = 'x')"),
    ],
)
def test_an_index_is_what_it_is_made_of(definition: str, short: str) -> None:
    assert docs.made_of(definition) == short


def test_only_what_is_between_the_markers_is_replaced_and_twice_is_once() -> None:
    text = f"before\n{docs.BEGIN}\nold\n{docs.END}\nafter\n"
    once = docs.replace(text, "new")
    assert once == f"before\n{docs.BEGIN}\n\nnew\n\n{docs.END}\nafter\n"
    assert docs.replace(once, "new") == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        docs.BEGIN,
        docs.END,
        f"{docs.END}{docs.BEGIN}",
        f"{docs.BEGIN}{docs.END}{docs.END}",
        f"{docs.BEGIN}{docs.BEGIN}{docs.END}",
    ],
)
def test_markers_that_are_not_there_once_each_in_order_are_asked_for(text: str) -> None:
    with pytest.raises(NoMarkers) as refused:
        docs.replace(text, "new", file="x.md")
    assert str(refused.value) == (
        "x.md does not have the two lines between which the tables are described, once each and in order.\n"
        "  <!-- db.docs:begin -->\n  <!-- db.docs:end -->\nNothing was written.\n"
        "Put them where the description belongs, then:  invoke db.docs"
    )
