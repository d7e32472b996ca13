"""How the doctor judges: facts in, checks out; the faults that can be planted for real are in tests/integration."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from infra.db import check, doctor, errors, settings
from infra.db.check import Verdict
from infra.db.doctor import Details, Doctor
from infra.db.servers import health
from infra.db.servers.external import External
from tests.project import TOP

if TYPE_CHECKING:
    from collections.abc import Callable

GB = 1 << 30
WELL = Details(
    version="18.4",
    pgvector="0.8.5",
    installed="0.8.5",
    may_extend=True,
    may_create_databases=True,
    collation="C.UTF-8",
    recorded="1",
    actual="1",
)


def known(**given: str) -> settings.Settings:
    return settings.read(given, root=Path("/checkout"), dotenv={})


def fine() -> check.Check:
    return check.ok("fine", "it is")


def broken() -> check.Check:
    raise errors.NotRunning("there")


def test_a_failure_of_ours_is_what_a_check_found_with_its_words_its_mend_and_its_code() -> None:
    found = check.of("server", broken)
    assert (found.name, found.verdict, found.mend, found.exit_code) == ("server", Verdict.FAULT, "invoke db.up", 5)
    assert found.found == "The database server (there) is not running."


def test_after_a_check_that_is_not_well_those_that_need_it_are_skipped_and_say_why() -> None:
    found = list(check.in_turn({"one": fine, "two": broken, "three": fine, "four": fine}))
    assert [each.verdict for each in found] == [Verdict.OK, Verdict.FAULT, Verdict.SKIPPED, Verdict.SKIPPED]
    assert {each.found for each in found[2:]} == {"not checked: see two"}


def test_checks_that_do_not_need_each_other_are_all_done() -> None:
    assert [each.verdict for each in check.each({"one": broken, "two": fine})] == [Verdict.FAULT, Verdict.OK]


def test_several_findings_are_one_check_with_the_worst_first_and_each_mend_once() -> None:
    found = check.worst(
        "x",
        [check.warning("x", "small", "do a"), check.fault("x", "large", "do b"), check.warning("x", "tiny", "do a")],
        "fine",
    )
    assert found == check.Check("x", Verdict.FAULT, "large\nsmall\ntiny", "do b\ndo a", 5)
    assert check.worst("x", [], "fine") == check.ok("x", "fine")


@pytest.mark.parametrize(
    ("needs", "verdict"),
    [pytest.param(">=3.11", "ok", id="new enough"), pytest.param(">=3.99", "fault", id="too old")],
)
def test_python_is_compared_with_what_the_project_asks_for(needs: str, verdict: str) -> None:
    found = doctor.python(platform.python_version(), needs)
    assert (found.verdict, found.exit_code) == (verdict, 2 if verdict == "fault" else 0)
    assert platform.python_version() in found.found


def test_a_package_that_is_missing_or_too_old_is_named_with_what_is_needed() -> None:
    has = {"good": "2.1", "old": "1.9"}
    found = doctor.packages(["good[extra]>=2", "old>=2", "gone>=1", "elsewhere>=1; sys_platform == 'nowhere'"], has.get)
    assert found.verdict == "fault"
    assert found.found == "old >=2 is needed, and 1.9 is installed.\ngone >=1 is needed, and none is installed."
    assert found.mend == "python -m pip install -e ."


def test_this_very_environment_has_the_packages_that_the_project_asks_for() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert doctor.packages(project["dependencies"], importlib.metadata.version).verdict == "ok"


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"DB_SERVER": "embedded"}, "embedded", "embedded, because DB_SERVER=embedded"),
        ({}, "docker", "docker, because a Docker engine answers (DB_SERVER=auto)"),
        ({}, "embedded", "embedded, because no Docker engine answers (DB_SERVER=auto)"),
        ({"DB_HOST": "db.test"}, "external", "external, because DB_HOST=db.test is not this machine (DB_SERVER=auto)"),
    ],
)
def test_the_rule_that_chose_the_server_is_said(given: dict[str, str], kind: str, said: str) -> None:
    assert doctor.chosen(known(**given), kind) == said


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        pytest.param({}, "ok", "0.8.5 is installed", id="installed"),
        pytest.param({"installed": None}, "ok", "0.8.5 is available", id="available"),
        pytest.param({"installed": None, "pgvector": None}, "fault", "has no extension vector", id="missing"),
        pytest.param({"installed": "0.6.2"}, "fault", "need halfvec", id="before halfvec"),
        pytest.param({"installed": "0.8.0", "pgvector": "0.10.0"}, "warning", "0.10.0 is available", id="not updated"),
        pytest.param({"pgvector": None}, "ok", "0.8.5 is installed", id="its files are gone, and it is installed"),
    ],
)
def test_pgvector_must_be_there_and_know_halfvec(changes: dict[str, Any], verdict: str, said: str) -> None:
    found = doctor.pgvector(replace(WELL, **changes))
    assert found.verdict == verdict
    assert said in found.found
    assert bool(found.mend) == (verdict != "ok")


def test_a_right_that_a_run_needs_is_a_fault_and_one_for_rehearsals_a_warning() -> None:
    who = known(DB_USER="ann")
    assert doctor.rights(who, WELL, None).verdict == "ok"
    rehearse = doctor.rights(who, replace(WELL, may_create_databases=False), None)
    assert (rehearse.verdict, rehearse.mend) == ("warning", 'As a superuser:  ALTER ROLE "ann" CREATEDB;')
    extend = replace(WELL, may_extend=False)
    assert doctor.rights(who, extend, None).verdict == "ok"  # as it is installed
    assert doctor.rights(who, replace(extend, installed=None), None).verdict == "fault"
    refused = doctor.rights(who, replace(extend, installed=None), errors.NoRight("ann", "create tables", "x"))
    assert refused.found.startswith("The role ann may not create tables (database x).\nThe role ann may not install")


def test_a_collation_that_has_changed_under_the_indexes_is_a_warning() -> None:
    assert doctor.collation("mordeaux", WELL) == check.ok("collation", "C.UTF-8, version 1")
    assert doctor.collation("x", replace(WELL, recorded=None, actual=None)).found == "C.UTF-8"
    found = doctor.collation("Odd", replace(WELL, recorded="2.31", actual="2.36", collation="de_DE.utf8"))
    assert found.verdict == "warning"
    assert "version 2.31 of the collation de_DE.utf8; the server's system has 2.36" in found.found
    assert 'invoke db.shell --command "ALTER DATABASE \\"Odd\\" REFRESH COLLATION VERSION"' in found.mend


@pytest.mark.parametrize(
    ("free", "verdict", "said"),
    [
        pytest.param({"backups": 5 * GB, "/tmp": GB}, "ok", "backups: 5.4 GB free\n/tmp: 1.1 GB free", id="enough"),
        pytest.param({"backups": 5 * GB, "/tmp": GB - 1}, "warning", "little room, 1,074 MB, in /tmp.", id="little"),
        pytest.param({"data": 0, "/tmp": GB - 1}, "fault", "too little room, 0 MB, in data.\nThere is l", id="none"),
    ],
)
def test_little_room_is_a_warning_and_too_little_a_fault(free: dict[str, int], verdict: str, said: str) -> None:
    found = doctor.disk_space(free)
    assert found.verdict == verdict
    assert said in found.found


def test_room_is_measured_where_a_folder_will_be(tmp_path: Path) -> None:
    assert health.free(tmp_path / "not" / "yet") > 0


def test_leftovers_are_listed_up_to_five_with_each_command_once() -> None:
    assert doctor.leftovers({}) == check.ok("leftovers", "none")
    found = doctor.leftovers({f"/tmp/invoke-migrate-{number}": "rm them" for number in range(7)})
    assert (found.verdict, found.mend) == ("warning", "rm them")
    assert found.found.endswith("  /tmp/invoke-migrate-4\nand 2 more")


@pytest.mark.parametrize(
    ("attributes", "git", "keeps"),
    [
        pytest.param("*.sql text eol=lf\n", True, True, id="the line"),
        pytest.param("* text=auto\n*.sql  text   eol=lf", True, True, id="other blanks"),
        pytest.param("* text eol=lf", True, True, id="for all files"),
        pytest.param("# *.sql text eol=lf", True, False, id="a comment"),
        pytest.param("*.sql text eol=crlf", True, False, id="the other ends"),
        pytest.param("*.yml text eol=lf", True, False, id="other files"),
        pytest.param(None, True, False, id="no file"),
        pytest.param(None, False, True, id="no Git"),
    ],
)
def test_git_has_to_keep_lf_where_there_is_git(tmp_path: Path, attributes: str | None, git: bool, keeps: bool) -> None:  # noqa: FBT001
    folder = tmp_path / "infra" / "migrations"
    folder.mkdir(parents=True)
    if git:
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    if attributes is not None:
        (tmp_path / ".gitattributes").write_text(attributes)
    assert doctor.line_ends(folder, "m").verdict == ("ok" if keeps else "warning")


ENGINE = {"Version": "28.1", "ApiVersion": "1.49", "Os": "linux", "Arch": "arm64", "Components": [{"Name": "Engine"}]}


def test_an_engine_says_what_it_is_and_one_for_windows_containers_is_a_fault() -> None:
    assert health.engine(ENGINE) == check.ok("Docker engine", "Docker Engine 28.1, API 1.49, linux/arm64")
    podman = health.engine({**ENGINE, "Components": [{"Name": "Podman Engine"}]})
    assert podman.found == "Podman 28.1, API 1.49, linux/arm64"
    assert health.engine({}).verdict == "ok"
    assert health.engine({**ENGINE, "Os": "windows"}).verdict == "fault"


@pytest.mark.parametrize(
    ("variables", "major"),
    [
        (["PG_MAJOR=18", "PGDATA=/var/lib/postgresql/17/docker"], "18"),
        (["PGDATA=/var/lib/postgresql/17/docker"], "17"),
        (["PGDATA=/var/lib/postgresql/data"], ""),
        ([], ""),
    ],
)
def test_an_image_says_its_version_by_its_variables(variables: list[str], major: str) -> None:
    assert health.major(variables) == major


@pytest.mark.parametrize(
    ("has", "made_by", "verdict", "said"),
    [
        pytest.param("18", ["18"], "ok", "x is PostgreSQL 18, and so is the data in volume v", id="alike"),
        pytest.param("18", [], "ok", "x is PostgreSQL 18", id="no data"),
        pytest.param("", ["18"], "ok", "x is PostgreSQL (it does not say which)", id="an image that does not say"),
        pytest.param(None, ["18"], "warning", "x is not on this machine", id="no image"),
        pytest.param("18", ["17"], "fault", "the data in volume v was made by PostgreSQL 17", id="older data"),
        pytest.param("18", ["17", "18"], "warning", "volume v also holds data of PostgreSQL 17", id="both"),
    ],
)
def test_the_image_must_be_of_the_version_that_made_the_data(
    has: str | None, made_by: list[str], verdict: str, said: str
) -> None:
    found = health.image("x", has, made_by, volume="v")
    assert found.verdict == verdict
    assert said in found.found


@pytest.mark.parametrize(
    ("state", "verdict", "said"),
    [
        pytest.param({"Status": "running"}, "ok", "c runs", id="runs"),
        pytest.param({"Status": "running", "Health": {"Status": "healthy"}}, "ok", "c runs, healthy", id="healthy"),
        pytest.param(
            {"Status": "running", "Health": {"Status": "unhealthy", "Log": [{"Output": "one"}, {"Output": "two\n"}]}},
            "warning",
            "c runs, but its health check fails: two",
            id="unhealthy",
        ),
        pytest.param({"Status": "created"}, "warning", "c has never been started.", id="created"),
        pytest.param({"Status": "exited", "ExitCode": 0}, "warning", "c is stopped.", id="stopped"),
        pytest.param({"Status": "exited", "ExitCode": 137}, "warning", "exit code 137: it was killed", id="killed"),
    ],
)
def test_a_container_is_judged_by_its_state(state: dict[str, Any], verdict: str, said: str) -> None:
    found = health.container("c", state)
    assert found is not None
    assert found.verdict == verdict
    assert said in found.found


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"Status": "exited", "ExitCode": 1}, id="failed"),
        pytest.param({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, id="out of memory"),
        pytest.param({"Status": "restarting", "ExitCode": 1}, id="restarting"),
        pytest.param({"Status": "paused"}, id="paused"),
    ],
)
def test_a_container_that_has_died_is_left_to_its_log(state: dict[str, Any]) -> None:
    assert health.container("c", state) is None


def test_what_a_container_says_of_its_inside_is_read_line_by_line() -> None:
    said = "data 17\ndata 18\ndata 18\nfree /var/lib/postgresql 10 4096\nfree /tmp \n/tmp/invoke-migrate-a b\n"
    found = health.inside(said)
    assert found == health.Inside(("17", "18"), {"/var/lib/postgresql": 40960}, ("/tmp/invoke-migrate-a b",))
    assert health.inside("sh: stat: not found\n") == health.Inside()


def no_server(_settings: settings.Settings) -> Any:
    raise AssertionError("never asked")


def absent(name: str) -> Callable[[], settings.Settings]:
    def read() -> settings.Settings:
        raise ModuleNotFoundError(name=name)

    return read


def test_a_package_that_the_tasks_themselves_lack_is_a_fault_and_not_the_end(tmp_path: Path) -> None:
    found = {each.name: each for each in Doctor(tmp_path, absent("dotenv"), no_server).checks()}
    assert found["settings"].found == "The Python package dotenv is not installed."
    assert (found["settings"].mend, found["settings"].exit_code) == ("python -m pip install -e .", 2)
    assert found["Python"].found == "not checked: there is no pyproject.toml to read"
    assert {each.verdict for each in found.values()} == {Verdict.FAULT, Verdict.SKIPPED}


def test_a_package_that_the_server_lacks_is_a_fault_and_the_files_are_still_read(tmp_path: Path) -> None:
    def choose(_settings: settings.Settings) -> Any:
        raise ModuleNotFoundError(name="docker")

    def read() -> settings.Settings:
        return settings.read({}, root=tmp_path, dotenv={})

    found = {each.name: each for each in Doctor(tmp_path, read, choose).checks()}
    assert found["server"].found == "The Python package docker is not installed."
    assert found["connection"].found == "not checked: there is no server to ask"
    assert found["files"].found == "There is no folder infra/migrations."
    assert found["disk space"].verdict == Verdict.OK


def test_a_missing_driver_is_a_fault_of_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> settings.Settings:
        return settings.read({"DB_SERVER": "external"}, root=tmp_path, dotenv={})

    monkeypatch.setitem(sys.modules, "psycopg", None)
    found = {each.name: each for each in Doctor(tmp_path, read, External).checks()}
    assert found["connection"].found == "The Python package psycopg is not installed."
    assert found["history"].found == "not checked: see connection"
