"""Which table somebody means."""

from __future__ import annotations

import pytest

from infra.db import errors
from infra.db.relations import Relation, find

VISIBLE, HIDDEN = True, False
KNOWN = [
    Relation(1, "public", "faces", VISIBLE, "public", "faces"),
    Relation(2, "public", "Faces", VISIBLE, "public", '"Faces"'),
    Relation(3, "public", "policies", VISIBLE, "public", "policies"),
    Relation(4, "app", "hidden", HIDDEN, "app", "hidden"),
    Relation(5, "My App", 'we"ird name', HIDDEN, '"My App"', '"we""ird name"'),
]


@pytest.mark.parametrize(
    ("typed", "oid"),
    [
        pytest.param("faces", 1, id="as stored"),
        pytest.param("Faces", 2, id="a capital that is stored"),
        pytest.param('"Faces"', 2, id="with SQL's quotes"),
        pytest.param("FACES", 1, id="folded as SQL does"),
        pytest.param("public.faces", 1, id="with its schema"),
        pytest.param("PUBLIC.POLICIES", 3, id="with its schema, folded"),
        pytest.param("app.hidden", 4, id="in a schema that has to be named"),
        pytest.param('My App.we"ird name', 5, id="without the quotes that a shell ate"),
        pytest.param('"My App"."we""ird name"', 5, id="quoted as SQL does"),
    ],
)
def test_a_table_is_found_by_any_usual_form_of_its_name(typed: str, oid: int) -> None:
    assert find(typed, KNOWN).oid == oid


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        pytest.param("fases", '  Did you mean faces or "Faces"?', id="a slip"),
        pytest.param("policy", "  Did you mean policies?", id="another number"),
        pytest.param("hidden", "  Did you mean app.hidden?", id="in another schema"),
        pytest.param("*", "", id="a pattern is no name"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_a_table_that_is_not_there_is_told_with_the_nearest_names(typed: str, near: str) -> None:
    with pytest.raises(errors.NoSuchTable) as caught:
        find(typed, KNOWN)
    assert caught.value.where == near
    assert caught.value.next == "invoke db.tables"
    assert caught.value.exit_code == 2
