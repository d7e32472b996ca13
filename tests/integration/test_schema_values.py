"""Values that make no sense are refused where they are stored, and ids and times are the database's own."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.integration.schema_fixtures import UNIT, A, a, admin, superuser

if TYPE_CHECKING:
    from tests.integration.schema_fixtures import Schema

CHECK, TAKEN, DATA = "23514", "23505", "22000"
UNIT_OF = "array_fill({}::real, ARRAY[{}])::halfvec"
VECTOR = "INSERT INTO embeddings (face_id, model_name, model_version, embedding) VALUES ('{}', 'm', '2', {})"
FACE = (
    "INSERT INTO faces (content_id, face_index, bbox_x, bbox_y, bbox_width, bbox_height) VALUES ('{}', {}, 0, 0, 1, 1)"
)

REFUSED = {
    "UPDATE sources SET type = 'magic'": CHECK,
    "UPDATE sources SET status = 'sleepy'": CHECK,
    "UPDATE sources SET name = ''": CHECK,
    "UPDATE sources SET config = '[]'": CHECK,
    f"UPDATE sources SET url = '{'x' * 2049}'": CHECK,
    "INSERT INTO sources (name, type) VALUES ('crawler', 'api')": TAKEN,
    "UPDATE content SET status = 'lost'": CHECK,
    "UPDATE content SET sha256 = '\\x00'": CHECK,
    "UPDATE content SET file_size = -1": CHECK,
    "UPDATE content SET s3_key_raw = ''": CHECK,
    "UPDATE content SET metadata = '[]'": CHECK,
    "UPDATE content SET metadata = 'null'": CHECK,
    "UPDATE content SET processing_started_at = now(), processing_completed_at = now() - interval '1 s'": CHECK,
    f"INSERT INTO content (source_id, s3_key_raw, external_id) VALUES ('{A}', 'y', 'ext-1')": TAKEN,
    "UPDATE faces SET bbox_width = 0": CHECK,
    "UPDATE faces SET bbox_height = -1": CHECK,
    "UPDATE faces SET bbox_width = 'NaN'": CHECK,
    "UPDATE faces SET bbox_height = 'Infinity'": CHECK,
    "UPDATE faces SET bbox_x = '-Infinity'": CHECK,
    "UPDATE faces SET quality_score = 1.1": CHECK,
    "UPDATE faces SET quality_score = 'NaN'": CHECK,
    "UPDATE faces SET landmarks = '{1,2,3}'": CHECK,
    "UPDATE faces SET emotion = '[]'": CHECK,
    "UPDATE faces SET face_index = -1": CHECK,
    "UPDATE faces SET age_estimate = 151": CHECK,
    FACE.format(A, 0): TAKEN,
    VECTOR.format(A, UNIT_OF.format(1, 512)): CHECK,
    VECTOR.format(A, UNIT_OF.format(0, 512)): CHECK,
    VECTOR.format(A, UNIT_OF.format(0.04, 511)): DATA,
    VECTOR.format(A, UNIT_OF.format("'NaN'", 512)): DATA,
    VECTOR.replace("'m', '2'", "'buffalo_l', '1'").format(A, UNIT): TAKEN,
    "UPDATE embeddings SET vector_norm = 'NaN'": CHECK,
    "UPDATE clusters SET algorithm = 'guess'": CHECK,
    "UPDATE clusters SET cluster_type = 'crowd'": CHECK,
    f"UPDATE clusters SET centroid = {UNIT}": CHECK,  # of which model?
    "UPDATE clusters SET size = -1": CHECK,
    "UPDATE cluster_members SET similarity_score = 1.01": CHECK,
    "UPDATE cluster_members SET distance_score = 'NaN'": CHECK,
    "UPDATE cluster_members SET added_by = 'cat'": CHECK,
    f"INSERT INTO cluster_members (cluster_id, face_id, similarity_score) VALUES ('{A}', '{A}', 1)": TAKEN,
    "UPDATE policies SET policy_type = 'wish'": CHECK,
    "UPDATE policies SET effective_until = effective_from": CHECK,
    "UPDATE policies SET rules = '{}'": CHECK,
    "UPDATE policies SET rules = '[{}]'": CHECK,
    "UPDATE policies SET rules = '[1]'": CHECK,
    """UPDATE policies SET rules = '[[{"type": "allow"}]]'""": CHECK,
    """UPDATE policies SET rules = '[{"type": 1}]'""": CHECK,
    """UPDATE policies SET rules = '[{"type": null}]'""": CHECK,
    """UPDATE policies SET rules = '[{"type": "allow"}, {"type": "maybe"}]'""": CHECK,
    "INSERT INTO policies (name, is_default) VALUES ('second', true)": TAKEN,
    "INSERT INTO policies (name) VALUES ('default')": TAKEN,
    "UPDATE alerts SET severity = 'loud'": CHECK,
    "UPDATE alerts SET status = 'resolved'": CHECK,
    "UPDATE alerts SET resolved_at = now()": CHECK,
    "UPDATE alerts SET subject_type = 'face'": CHECK,
    f"UPDATE alerts SET subject_id = '{A}'": CHECK,
    "UPDATE alerts SET tags = '{}'": CHECK,
    "INSERT INTO event_audit (event_type, event_category) VALUES ('x', 'gossip')": CHECK,
    "INSERT INTO event_audit (event_type, event_category, severity) VALUES ('x', 'data', 'meh')": CHECK,
    "INSERT INTO event_audit (event_type, event_category, event_data) VALUES ('x', 'data', '[]')": CHECK,
    "DELETE FROM sources": "23503",  # it has content
}

ACCEPTED = [
    """UPDATE policies SET rules = '[{"type": "allow"}, {"type": "alert", "to": "x"}, {"type": "block"}]'""",
    "UPDATE policies SET rules = '[]'",
    "INSERT INTO policies (name, is_default, is_active) VALUES ('old default', true, false)",
    "INSERT INTO policies (name, is_default, policy_type) VALUES ('other type', true, 'privacy')",
    "UPDATE alerts SET status = 'dismissed', resolved_at = now()",
    "UPDATE alerts SET subject_type = 'system'",
    f"UPDATE alerts SET subject_type = 'face', subject_id = '{A}'",
    "UPDATE faces SET bbox_x = -3, landmarks = '{1,2,3,4}', phash = -1",
    f"UPDATE clusters SET centroid = {UNIT}, model_name = 'm', model_version = '1'",
    f"INSERT INTO content (source_id, s3_key_raw) SELECT '{A}', 'same' FROM generate_series(1, 2)",
]


def test_values_that_make_no_sense_are_refused(schema: Schema) -> None:
    assert {statement: schema.refusal(a, statement) for statement in REFUSED} == REFUSED


def test_values_that_make_sense_are_accepted(owned: Schema) -> None:
    assert {statement: owned.refusal(a, statement) for statement in ACCEPTED} == dict.fromkeys(ACCEPTED, "")


@pytest.mark.parametrize("slug", ["", "A", "-a", "a-", "a b", "a_b", "ä", "x" * 101])
def test_a_slug_that_no_address_can_hold_is_refused(slug: str, owned: Schema) -> None:
    assert owned.refusal(admin, "INSERT INTO tenants (name, slug) VALUES ('x', %s)", slug) == CHECK


def test_without_its_check_a_vector_of_another_length_gets_in(owned: Schema) -> None:
    """So it is the check that keeps it out."""
    owned.do(superuser, "ALTER TABLE embeddings DROP CONSTRAINT embeddings_embedding_check")
    assert owned.refusal(a, VECTOR.format(A, UNIT_OF.format(1, 512))) == ""


def test_updated_at_moves_with_every_update_and_created_at_never_does(schema: Schema) -> None:
    for table in sorted(set(schema.tables()) - {"event_audit"}):
        query = f"SELECT created_at, updated_at FROM {table} WHERE id = '{A}'"
        ((created, updated),) = schema.rows(superuser, query)
        schema.do(superuser, f"UPDATE {table} SET created_at = 'epoch', updated_at = 'epoch' WHERE id = '{A}'")
        ((created_now, updated_now),) = schema.rows(superuser, query)
        assert created_now == created, table
        assert updated_now > updated, table


def test_ids_are_distinct_and_of_version_7_and_carry_the_time(schema: Schema) -> None:
    before = int(time.time() * 1000)
    made = [each for (each,) in schema.rows(a, "SELECT app.uuid_v7() FROM generate_series(1, 2000)")]
    after = int(time.time() * 1000)
    assert len(set(made)) == 2000
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}
    assert all(before - 1 <= each.int >> 80 <= after + 1 for each in made)


def test_ids_made_later_sort_later(schema: Schema) -> None:
    with schema.transaction(a) as connection:
        made = []
        for _ in range(5):
            made += connection.execute("SELECT app.uuid_v7()").fetchall()
            connection.execute("SELECT pg_sleep(0.002)")
    assert made == sorted(made)


def test_a_range_of_ids_is_a_range_of_time(schema: Schema) -> None:
    moment = datetime(2026, 1, 31, 12, 0, 0, 123900, tzinfo=UTC)  # rounded down: 123 ms
    floor = schema.one(a, "SELECT app.uuid_v7_floor(%s)", moment)
    assert floor == uuid.UUID(int=(1769860800123 << 80) | (7 << 76) | (2 << 62))
    between = "app.uuid_v7_floor(clock_timestamp()) <= app.uuid_v7()"
    assert schema.one(a, f"SELECT {between} AND app.uuid_v7() < app.uuid_v7_floor(clock_timestamp() + '1 s')") is True
