from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.db import errors
from infra.db.servers import compose
from infra.db.servers.compose import Healthcheck, Port, Service, Volume

FILE = Path(__file__).parents[1] / "infra" / "docker-compose.yml"
TEXT = """
services:
  postgres:
    image: some/image:1
    {}
volumes:
  pgdata:
"""


def parse(text: str, environment: dict[str, str] | None = None, *, folder: str = "infra") -> Service:
    return compose.parse(text, folder=folder, environment=environment or {})


def with_key(key: str, environment: dict[str, str] | None = None) -> Service:
    return parse(TEXT.format(key), environment)


def interpolated(text: str, **environment: str) -> object:
    return compose.interpolate(text, environment, key="services.postgres.image")


def test_the_projects_own_file_is_this_service_without_any_setting() -> None:
    assert compose.read(FILE, {}) == Service(
        project="infra",
        name="postgres",
        container_name="infra-postgres-1",
        image="pgvector/pgvector:pg18",
        environment={"POSTGRES_DB": "mordeaux", "POSTGRES_USER": "postgres", "POSTGRES_PASSWORD": "postgres"},
        ports=(Port(ip="127.0.0.1", host=5432, container=5432),),
        volumes=(Volume(key="pgdata", name="infra_pgdata", target="/var/lib/postgresql"),),
        healthcheck=Healthcheck(
            test=("CMD", "pg_isready", "-h", "127.0.0.1", "-U", "postgres", "-d", "mordeaux"),
            interval=5 * 10**9,
            timeout=5 * 10**9,
            start_period=30 * 10**9,
            retries=12,
        ),
        labels={},
        shm_size="1gb",
    )


def test_the_projects_own_file_follows_the_settings() -> None:
    environment = {
        "DB_NAME": "other",
        "DB_USER": "me",
        "DB_PASSWORD": "s$e ${DB_NAME} $$ 'c\"r\\et",
        "DB_PORT": "6000",
        "COMPOSE_PROJECT_NAME": "mine",
    }
    service = compose.read(FILE, environment)
    assert service.environment == {
        "POSTGRES_DB": "other",
        "POSTGRES_USER": "me",
        "POSTGRES_PASSWORD": environment["DB_PASSWORD"],
    }
    assert service.ports == (Port(ip="127.0.0.1", host=6000, container=5432),)
    assert service.volumes == (Volume(key="pgdata", name="mine_pgdata", target="/var/lib/postgresql"),)
    assert (service.project, service.container_name) == ("mine", "mine-postgres-1")
    assert service.healthcheck is not None
    assert service.healthcheck.test == ("CMD", "pg_isready", "-h", "127.0.0.1", "-U", "me", "-d", "other")


def test_the_projects_own_file_publishes_on_this_machine_only() -> None:
    assert {port.ip for port in compose.read(FILE, {}).ports} == {"127.0.0.1"}


def test_a_service_does_not_show_its_password() -> None:
    assert repr(compose.read(FILE, {"DB_PASSWORD": "geheim"})) == "Service(infra/postgres, pgvector/pgvector:pg18)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${A}", "a"),
        ("$A-$A", "a-a"),
        ("${A:-b}", "a"),
        ("${NO:-b}", "b"),
        ("${NO:-}", ""),
        ("${EMPTY:-b}", "b"),
        ("${NO}", ""),
        ("${A:?must be set}", "a"),
        ("1${A}2${NO:-3}", "1a23"),
        ("$$", "$"),
        ("$$A", "$A"),
        ("$${A}", "${A}"),
        ("$$$A", "$a"),
        ("${NO:-C:\\dir}", "C:\\dir"),
        ("\\$$", "\\$"),
        ("${PASSWORD}", "p$A ${A} $$ \\ %"),
        ("${PASSWORD:-b}", "p$A ${A} $$ \\ %"),
    ],
)
def test_variables_follow_composes_rules_and_their_values_pass_untouched(text: str, expected: str) -> None:
    assert interpolated(text, A="a", EMPTY="", PASSWORD="p$A ${A} $$ \\ %") == expected


@pytest.mark.parametrize(
    "text", ["$", "a$", "${", "${A", "${A-b}", "${A:=b}", "${A:1:2}", "${#A}", "${!A}", "$1", "${A:+b}", "${A:-${B}}"]
)
def test_what_compose_and_the_library_read_differently_is_refused(text: str) -> None:
    with pytest.raises(errors.ComposeFileError) as refused:
        interpolated(text, A="a")
    assert refused.value.what == (
        "infra/docker-compose.yml services.postgres.image holds a $ that these tasks cannot read:"
        " write ${NAME}, ${NAME:-default}, ${NAME:?message}, or $$ for a $."
    )


@pytest.mark.parametrize("environment", [{}, {"A": ""}])
def test_a_required_variable_that_is_missing_or_empty_is_named_with_its_message(environment: dict[str, str]) -> None:
    with pytest.raises(errors.ComposeFileError) as refused:
        compose.interpolate({"a": ["${A:?ask Ann}"]}, environment, key="services.postgres")
    assert refused.value.what == (
        "infra/docker-compose.yml services.postgres.a needs a variable that is not set: A: ask Ann."
    )


@pytest.mark.parametrize(
    ("name", "folder", "said", "expected"),
    [
        (None, "infra", None, "infra"),
        ("named", "infra", None, "named"),
        ("${NAME:-named}", "infra", None, "named"),
        ("named", "infra", "said", "said"),
        ("named", "infra", "", "named"),
        (None, "Mordeaux_Dev.1", None, "mordeaux_dev1"),
        (None, "_-x", None, "x"),
        (None, "infra", "Mine!", "mine"),
    ],
)
def test_a_project_is_named_by_the_variable_the_file_the_folder_in_this_order(
    name: str | None, folder: str, said: str | None, expected: str
) -> None:
    environment = {} if said is None else {"COMPOSE_PROJECT_NAME": said}
    assert compose.project_name(name, folder=folder, environment=environment) == expected


def test_a_name_without_a_usable_letter_is_refused() -> None:
    with pytest.raises(errors.ComposeFileError, match=re.escape("gets no project name from '!!'")):
        compose.project_name(None, folder="!!", environment={})


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ('"5432"', Port(ip="", host=0, container=5432)),
        ("5432", Port(ip="", host=0, container=5432)),
        ('"6000:5432"', Port(ip="", host=6000, container=5432)),
        ('"6000:5432/tcp"', Port(ip="", host=6000, container=5432)),
        ('"127.0.0.1:6000:5432"', Port(ip="127.0.0.1", host=6000, container=5432)),
        ('"127.0.0.1::5432"', Port(ip="127.0.0.1", host=0, container=5432)),
        ('"[::1]:6000:5432"', Port(ip="::1", host=6000, container=5432)),
    ],
)
def test_a_port_is_read_in_each_of_its_short_spellings(port: str, expected: Port) -> None:
    assert with_key(f"ports: [{port}]").ports == (expected,)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("environment: {A: 1, B: true, C: x, D: ''}", {"A": "1", "B": "true", "C": "x", "D": ""}),
        ("environment: [A=1, B=x=y, C=]", {"A": "1", "B": "x=y", "C": ""}),
        ("environment: [HOME, NOT_SET]", {"HOME": "/home/me"}),
        ("environment: {HOME: , NOT_SET: }", {"HOME": "/home/me"}),
    ],
)
def test_variables_of_the_container_are_read_as_mapping_and_as_list(key: str, expected: dict[str, str]) -> None:
    assert with_key(key, {"HOME": "/home/me"}).environment == expected


def test_the_other_keys_are_read() -> None:
    service = parse("""
x-anything: {goes: here}
version: "3.9"
services:
  other: {image: of/no, deploy: {interest: here}}
  postgres:
    image: ${IMAGE:-some/image:2}
    command: postgres -c 'log_line_prefix=%m [%p]'
    container_name: db
    restart: unless-stopped
    labels: {a.b: 1}
    x-note: ours
    volumes: ["data:/var/lib/postgresql:ro"]
    healthcheck: {test: exit 0, interval: 1m30s, timeout: 500ms, start_period: 1h, retries: "${RETRIES:-4}"}
volumes:
  data: {name: kept}
""")
    assert service == Service(
        project="infra",
        name="postgres",
        container_name="db",
        image="some/image:2",
        environment={},
        command=("postgres", "-c", "log_line_prefix=%m [%p]"),
        restart="unless-stopped",
        labels={"a.b": "1"},
        volumes=(Volume(key="data", name="kept", target="/var/lib/postgresql", mode="ro"),),
        healthcheck=Healthcheck(
            test=("CMD-SHELL", "exit 0"),
            interval=90 * 10**9,
            timeout=500 * 10**6,
            start_period=3600 * 10**9,
            retries=4,
        ),
    )


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("deploy: {}", "services.postgres.deploy"),
        ("build: .", "services.postgres.build"),
        ("networks: [a]", "services.postgres.networks"),
        ("env_file: a", "services.postgres.env_file"),
        ("healthcheck: {disable: true}", "services.postgres.healthcheck.disable"),
        ("ports: [{target: 5432}]", "services.postgres.ports ({'target': 5432})"),
        ('ports: ["5000-5001:5432"]', "services.postgres.ports (5000-5001:5432)"),
        ('ports: ["5432/udp"]', "services.postgres.ports (5432/udp)"),
        ("volumes: [./data:/data]", "services.postgres.volumes (./data:/data)"),
        ("volumes: [/data]", "services.postgres.volumes (/data)"),
    ],
)
def test_what_is_not_understood_is_named_with_the_command_that_starts_it_all_the_same(key: str, named: str) -> None:
    with pytest.raises(errors.ComposeUnsupported) as refused:
        with_key(key)
    assert str(refused.value) == (
        f"infra/docker-compose.yml has {named}, which these tasks cannot create a container with.\n"
        "Nothing was started or changed.\n"
        "Start it with compose, then run the same command again; the container is found and used:\n"
        "  docker compose -f infra/docker-compose.yml up -d postgres"
    )


@pytest.mark.parametrize("text", ["networks: {a: }", "secrets: {}", "include: [a]"])
def test_a_top_level_key_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(errors.ComposeUnsupported, match=text.partition(":")[0]):
        parse(TEXT.format("") + text)


def test_an_external_volume_is_refused() -> None:
    text = TEXT.format("volumes: [pgdata:/x]").replace("  pgdata:\n", "  pgdata: {external: true}\n")
    with pytest.raises(errors.ComposeUnsupported, match=r"volumes\.pgdata\.external"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is not YAML: while parsing a flow node"),
        ("- a", "the whole file is not a mapping"),
        ("", "has no service postgres"),
        ("services: []", "services is not a mapping"),
        ("services: {postgres: }", "services.postgres names no image"),
        ("services: {postgres: {image: {a: b}}}", "services.postgres.image is not one word"),
        (TEXT.format("ports: 5432"), "services.postgres.ports is not a list"),
        (TEXT.format("volumes: [data:/x]"), "services.postgres.volumes names data, which is not under"),
        (TEXT.format("healthcheck: {interval: soon}"), "services.postgres.healthcheck.interval is not a duration"),
        (TEXT.format("healthcheck: {retries: few}"), "services.postgres.healthcheck.retries is not a number: few"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_the_place(text: str, problem: str) -> None:
    with pytest.raises(errors.ComposeFileError) as refused:
        parse(text)
    assert refused.value.what.startswith(f"infra/docker-compose.yml {problem}")


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), (b"\xe9", "it is not UTF-8")], ids=["missing", "latin"]
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "docker-compose.yml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.ComposeFileError) as refused:
        compose.read(path, {})
    assert refused.value.what == f"infra/docker-compose.yml cannot be read: {reason}."
