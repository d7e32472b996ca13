"""Whatever mixture of good and bad files: what is applied is a beginning of the plan, and the history is true."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    import pytest

    from tests.project import Done, Project

# How many mixtures; each costs a database and two runs. More by hand:  EXAMPLES=200 pytest ...
EXAMPLES = int(os.environ.get("EXAMPLES", "15"))
LONE = "-- migrate: no-transaction\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to write a file.

    Attributes:
        sql: with TABLE for the table that it makes.
        code: what the tool exits with because of it; 0 when nothing is wrong.
        keeps: whether its table is there although it failed.

    """

    sql: str
    code: int = 0
    keeps: bool = False

    @property
    def is_lone(self) -> bool:
        """Whether it asks for no transaction."""
        return self.sql.startswith(LONE)


GOOD = (
    Kind("CREATE TABLE TABLE (i int);\n"),
    Kind("CREATE TABLE TABLE (i int) -- no semicolon"),
    Kind("\ufeffCREATE TABLE TABLE (i int);\r\nCOPY TABLE FROM STDIN;\r\n1\r\n\\.\r\n"),
    Kind("SET search_path = pg_temp;\nSET ROLE pg_read_all_data;\nRESET ROLE;\nCREATE TABLE public.TABLE ();\n"),
    Kind(f"{LONE}CREATE TABLE TABLE (i int);\nCREATE INDEX CONCURRENTLY ON TABLE (i);\n"),
)
BAD = (
    Kind("CREATE TABLE TABLE (i int);\nSELECT 1/0;\n", 3),
    Kind("CREATE TABLE TABLE (i int);\nSELECT 'open;\n", 3),
    Kind("CREATE TABLE TABLE (i int);\n\\q\n", 3),
    Kind("CREATE TABLE TABLE (i int);\nDELETE FROM schema_migrations;\nDROP TABLE schema_migrations;\n", 3),
    Kind("CREATE TABLE TABLE (i int);\nCOPY TABLE FROM STDIN;\nx\n\\.\n", 3),
    Kind("CREATE TABLE TABLE (i int);\nSELECT pg_terminate_backend(pg_backend_pid());\n", 5),
    Kind(f"{LONE}CREATE TABLE TABLE (i int);\nSELECT 1/0;\n", 3, keeps=True),
    Kind("CREATE TABLE TABLE (i int);\nCOMMIT;\n", 4),
    Kind("CREATE TABLE TABLE (i int);\nCREATE INDEX CONCURRENTLY ON TABLE (i);\n", 4),
    Kind("CREATE TABLE TABLE (i int); -- \0\n", 2),
    Kind("-- nothing\n", 2),
)
MENDED = GOOD[0]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Files in a folder, and how they are run.

    Attributes:
        files: version -> what it is, in order.
        begun: how many are applied before the others are there.
        single: whether the rest goes into one transaction.

    """

    files: dict[str, Kind]
    begun: int
    single: bool


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    """Return good files with a few bad ones among them, their numbers with gaps and of different lengths."""
    kinds = draw(st.lists(st.one_of(st.sampled_from(GOOD), st.sampled_from(GOOD), st.sampled_from(BAD)), max_size=7))
    begun = draw(st.integers(0, next((n for n, kind in enumerate(kinds) if kind.code), len(kinds))))
    number, files = 0, {}
    for kind in kinds:
        number += draw(st.integers(1, 40))
        files[str(number).zfill(draw(st.integers(1, 4)))] = kind
    return Mixture(files, begun, draw(st.booleans()))


def expected(mixture: Mixture) -> tuple[int, list[str], set[str]]:
    """Return the exit code of a run, the versions that are applied after it, and the tables that are there."""
    versions = list(mixture.files)
    done, pending = versions[: mixture.begun], versions[mixture.begun :]
    for refused in (2, 4):
        lone = refused == 4 and mixture.single and any(mixture.files[version].is_lone for version in pending)
        if lone or any(mixture.files[version].code == refused for version in pending):
            return refused, done, set(done)
    for version in pending:
        kind = mixture.files[version]
        if kind.code:
            kept = versions[: mixture.begun] if mixture.single else done
            return kind.code, kept, {*kept, *([version] if kind.keeps else [])}
        done = [*done, version]
    return 0, done, set(done)


def assert_named(done: Done, mixture: Mixture, here: Project) -> None:
    """Assert that the message names the first file for which the run ended."""
    bad = [version for version in list(mixture.files)[mixture.begun :] if mixture.files[version].code == done.code]
    if "--single puts all files" in done.err:
        bad = [version for version in list(mixture.files)[mixture.begun :] if mixture.files[version].is_lone]
    assert "Traceback" not in done.err, done
    assert f"{bad[0]}_x" in done.err, done
    if done.code == 3:
        assert f"{here.folder}/{bad[0]}_x.sql" in done.err, done


def write(here: Project, version: str, kind: Kind) -> None:
    """Write the file of a version."""
    here.write(
        f"{version}_x.sql", kind.sql.replace("TABLE", f"t{version}").replace(f"CREATE t{version}", "CREATE TABLE")
    )


def tables(here: Project) -> set[str]:
    """Return the versions whose tables are there."""
    return {name.removeprefix("t") for name in here.tables()}


# Not shrunk when it fails: at some seconds for each try, a mixture of seven files is soon read by hand.
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(mixture=mixtures())
def test_what_is_applied_is_a_beginning_of_the_plan_and_the_history_is_the_schema(
    external_project: Project, tmp_path_factory: pytest.TempPathFactory, mixture: Mixture
) -> None:
    here = on_fresh_database(external_project, tmp_path_factory)
    for version, kind in list(mixture.files.items())[: mixture.begun]:
        write(here, version, kind)
    assert here.invoke("migrate").code == 0
    for version, kind in mixture.files.items():
        write(here, version, kind)
    done = here.invoke("migrate", *(["--single"] if mixture.single else []))
    code, applied, made = expected(mixture)
    assert (done.code, here.applied(), tables(here)) == (code, applied, made), done
    if code:
        assert_named(done, mixture, here)
    finish_by_hand(here, mixture)
    assert (here.applied(), tables(here)) == (list(mixture.files), set(mixture.files))


def on_fresh_database(base: Project, folders: pytest.TempPathFactory) -> Project:
    """Return a project with a database and a migrations folder of its own."""
    name = f"test_{secrets.token_hex(5)}"
    with replace(base, settings={**base.settings, "DB_NAME": "postgres"}).connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    own = {"DB_NAME": name, "MIGRATIONS_DIR": str(folders.mktemp("mixture"))}
    return replace(base, settings={**base.settings, **own})


def finish_by_hand(here: Project, mixture: Mixture) -> None:
    """Mend the bad files as the messages say, and run again."""
    for version, kind in mixture.files.items():
        if kind.code:
            write(here, version, MENDED)
    if here.rows("SELECT to_regclass('schema_migrations')") != [(None,)]:
        for (failed,) in here.rows("SELECT version FROM schema_migrations WHERE status = 'failed'"):
            here.do(f"DROP TABLE t{failed}")
            assert here.invoke("migrate-resolve", failed, "--pending").code == 0
    done = here.invoke("migrate")
    assert done.code == 0, done
