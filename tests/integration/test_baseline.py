"""Adopting a database that other means made: recorded when it is what the files make, shown where it is not."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.integration.test_rollback import applied
from tests.project import TOP

if TYPE_CHECKING:
    from tests.project import Project

COMMON = (
    "id uuid PRIMARY KEY DEFAULT gen_random_uuid(), created_at timestamptz DEFAULT now(), metadata jsonb DEFAULT '{}'"
)
# As the scripts that this project replaces made them: no history, no foreign keys, vectors as arrays.
OLD = {
    "tenants": "name varchar(255) NOT NULL UNIQUE",
    "sources": "tenant_id uuid NOT NULL, name varchar(255)",
    "content": "source_id uuid, url text, phash varchar(64)",
    "faces": "content_id uuid, bounding_box jsonb",
    "embeddings": "face_id uuid, embedding float[]",
    "clusters": "tenant_id uuid, size integer",
    "cluster_members": "cluster_id uuid, face_id uuid",
    "policies": "tenant_id uuid, rules jsonb",
    "event_audit": "tenant_id uuid, event_type varchar(100)",
    "alerts": "tenant_id uuid, severity varchar(20)",
}


def forgotten(project: Project) -> None:
    """Take the history away, as if other means had made the tables."""
    project.do("DROP TABLE schema_migrations")


def scratches(project: Project) -> list[tuple[str]]:
    """Name the throw-away databases that are left."""
    return project.rows("SELECT datname FROM pg_database WHERE datname ~ %s", f"{project.settings['DB_NAME']}_scratch")


def test_a_database_that_is_what_the_files_make_is_adopted(anywhere: Project) -> None:
    applied(anywhere, "001", "002")
    forgotten(anywhere)
    done = anywhere.invoke("migrate-baseline")
    assert done.code == 0, done
    assert anywhere.status() == {"001": "baseline", "002": "baseline"}
    assert anywhere.invoke("migrate").out.startswith("Nothing to do")
    assert scratches(anywhere) == []


def test_a_database_that_is_something_else_is_shown_and_not_recorded(anywhere: Project) -> None:
    applied(anywhere, "001", "002")
    forgotten(anywhere)
    anywhere.do("ALTER TABLE t001 ADD COLUMN extra text; DROP TABLE t002; CREATE VIEW v AS SELECT 1 AS one")
    done = anywhere.invoke("migrate-baseline")
    assert done.code == 4, done
    assert "  public.t001\n    changed: the table\n" in done.err
    assert "+    extra text" in done.err
    assert "  public.t002\n    missing: the table\n" in done.err
    assert "extra: VIEW public.v" in done.err
    assert anywhere.status() == {"001": "pending", "002": "pending"}
    done = anywhere.invoke("migrate-baseline", "--anyway")
    assert done.code == 0, done
    assert "extra: VIEW public.v" in done.out
    assert anywhere.status() == {"001": "baseline", "002": "baseline"}
    assert scratches(anywhere) == []


def test_a_database_that_stands_at_an_older_version_is_adopted_up_to_it(external: Project) -> None:
    applied(external, "001", "002", "007")
    external.do("DROP TABLE t007")
    forgotten(external)
    assert external.invoke("migrate-baseline").code == 4
    done = external.invoke("migrate-baseline", "--to", "2")
    assert done.code == 0, done
    assert external.status() == {"001": "baseline", "002": "baseline", "007": "pending"}
    assert external.invoke("migrate").code == 0
    assert external.tables() == {"t001", "t002", "t007"}


def test_the_schema_of_the_old_scripts_is_compared_table_by_table(external: Project) -> None:
    for file in (TOP / "infra" / "migrations").glob("*.sql"):
        shutil.copy(file, external.folder)
    external.do(";".join(f"CREATE TABLE {name} ({COMMON}, {columns})" for name, columns in OLD.items()))
    refused = external.invoke("migrate")
    assert refused.code == 4
    assert "invoke migrate-baseline" in refused.err
    done = external.invoke("migrate-baseline")
    assert done.code == 4, done
    for name in OLD:
        assert f"  public.{name}\n    changed: the table\n" in done.err, name
    assert "+    embedding double precision[]" in done.err
    assert set(external.status().values()) == {"pending"}


def test_where_no_database_may_be_made_a_private_server_does(external: Project, embedded_project: Project) -> None:
    applied(external, "001")
    forgotten(external)
    name = external.settings["DB_NAME"]
    external.do(
        f"CREATE ROLE {name} LOGIN PASSWORD 'x'; GRANT ALL ON SCHEMA public TO {name}; ALTER TABLE t001 OWNER TO {name}"
    )
    external.settings.update(DB_USER=name, DB_PASSWORD="x", EMBEDDED_DIR=str(embedded_project.root / ".external"))
    done = external.invoke("migrate-baseline")
    assert done.code == 0, done
    assert "private PostgreSQL" in done.out
    assert external.status() == {"001": "baseline"}


def test_months_that_came_since_are_no_difference(external: Project) -> None:
    for file in (TOP / "infra" / "migrations").glob("*.sql"):
        shutil.copy(file, external.folder)
    assert external.invoke("migrate").code == 0
    forgotten(external)
    external.do("SELECT app.ensure_event_audit_partitions(5)")
    done = external.invoke("migrate-baseline")
    assert done.code == 0, done
