"""pg_dump's text in, objects and differences out."""

from __future__ import annotations

import pytest

from infra.db import catalogue
from infra.db.catalogue import Difference, Kind

DUMP = r"""--
-- PostgreSQL database dump
--

\restrict wHn5Qt9

-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: app; Type: SCHEMA; Schema: -; Owner: ann
--

CREATE SCHEMA app;


ALTER SCHEMA app OWNER TO ann;

--
-- Name: f(uuid, text); Type: FUNCTION; Schema: app; Owner: ann
--

CREATE FUNCTION app.f(uuid, text) RETURNS text
    LANGUAGE plpgsql
    AS $_$
--
-- not a header
--


BEGIN RETURN $2; END $_$;


--
-- Name: faces; Type: TABLE; Schema: public; Owner: ann
--

CREATE TABLE public.faces (
    id integer NOT NULL
);


--
-- Name: faces audit; Type: TRIGGER; Schema: public; Owner: ann
--

CREATE TRIGGER audit BEFORE UPDATE ON public.faces FOR EACH ROW EXECUTE FUNCTION app.g();

ALTER TABLE public.faces DISABLE TRIGGER audit;


--
-- Name: COLUMN faces.id; Type: COMMENT; Schema: public; Owner: ann
--

COMMENT ON COLUMN public.faces.id IS 'x';


--
-- Name: TABLE faces; Type: ACL; Schema: public; Owner: ann
--

GRANT SELECT ON TABLE public.faces TO bob;


--
-- PostgreSQL database dump complete
--

\unrestrict wHn5Qt9
"""


def test_a_dump_is_split_into_its_objects_and_nothing_else() -> None:
    schema = catalogue.split(DUMP)
    assert list(schema) == [
        "SCHEMA app",
        "FUNCTION app.f(uuid, text)",
        "TABLE public.faces",
        "TRIGGER public.faces audit",
        "COMMENT ON COLUMN public.faces.id",
        "GRANTS ON TABLE public.faces",
    ]
    assert schema["GRANTS ON TABLE public.faces"] == "GRANT SELECT ON TABLE public.faces TO bob;\n"
    assert schema["SCHEMA app"] == "CREATE SCHEMA app;\n\nALTER SCHEMA app OWNER TO ann;\n"
    assert schema["TRIGGER public.faces audit"].endswith("DISABLE TRIGGER audit;\n")
    assert "-- not a header" in schema["FUNCTION app.f(uuid, text)"]


def test_two_dumps_of_one_schema_by_other_versions_are_the_same() -> None:
    other = DUMP.replace("18.4", "18.5").replace("wHn5Qt9", "aaaaaaa")
    assert catalogue.compare(catalogue.split(DUMP), catalogue.split(other)) == []


def test_two_entries_of_one_name_are_kept_together() -> None:
    entry = (
        "--\n-- Name: DEFAULT PRIVILEGES FOR TABLES; Type: DEFAULT ACL; Schema: app; Owner: {0}\n--\n\nGRANT {0};\n\n\n"
    )
    assert catalogue.split(entry.format("ann") + entry.format("bob")) == {
        "DEFAULT ACL app.DEFAULT PRIVILEGES FOR TABLES": "GRANT ann;\nGRANT bob;\n"
    }


def test_an_empty_database_has_no_objects() -> None:
    assert catalogue.split("--\n-- PostgreSQL database dump\n--\n\nSET x = 1;\n") == {}


def test_each_difference_says_what_kind_it_is_and_shows_its_lines() -> None:
    wanted = {"TABLE t": "CREATE TABLE t (\n    a integer\n);\n", "INDEX i": "CREATE INDEX i;\n", "VIEW v": "x\n"}
    found = {"VIEW v": "x\n", "TABLE t": "CREATE TABLE t (\n    a integer,\n    b text\n);\n", "INDEX j": "CREATE j;\n"}
    assert catalogue.compare(wanted, found) == [
        Difference(
            "TABLE t",
            Kind.CHANGED,
            "@@ -1,3 +1,4 @@\n CREATE TABLE t (\n-    a integer\n+    a integer,\n+    b text\n );",
        ),
        Difference("INDEX i", Kind.MISSING, "@@ -1 +0,0 @@\n-CREATE INDEX i;"),
        Difference("INDEX j", Kind.EXTRA, "@@ -0,0 +1 @@\n+CREATE j;"),
    ]


def test_differences_read_as_one_text_with_a_heading_each() -> None:
    differences = catalogue.compare({"INDEX i": "CREATE INDEX i;\n"}, {})
    assert catalogue.readable(differences, wanted="the files", found="mordeaux") == (
        "--- the files\n+++ mordeaux\nmissing: INDEX i\n@@ -1 +0,0 @@\n-CREATE INDEX i;"
    )


@pytest.mark.parametrize(
    ("kind", "place", "name", "called"),
    [
        ("EXTENSION", "-", "vector", "EXTENSION vector"),
        ("CONSTRAINT", "public", "faces faces_pkey", "CONSTRAINT public.faces faces_pkey"),
        ("COMMENT", "-", "SCHEMA app", "COMMENT ON SCHEMA app"),
        ("ACL", "app", "FUNCTION f(uuid)", "GRANTS ON FUNCTION app.f(uuid)"),
        ("ROW SECURITY", "public", "faces", "ROW SECURITY public.faces"),
    ],
)
def test_an_object_is_called_by_its_type_its_schema_and_its_name(kind: str, place: str, name: str, called: str) -> None:
    assert catalogue.identity(kind, place, name) == called
