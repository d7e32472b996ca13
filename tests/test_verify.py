"""What may differ from a fresh build without being a difference, and what may not."""

from __future__ import annotations

import pytest

from infra.db import verify
from infra.db.catalogue import Kind
from infra.db.verify import Partition, Picture, Result

LIVE_BOUNDS, MADE_BOUNDS = "FROM ('2026-01-01') TO ('2026-02-01')", "FROM ('2026-11-01') TO ('2026-12-01')"
ANN = frozenset({"ann"})


def month(name: str, *, is_range: bool = True, is_default: bool = False, above: tuple[str, ...] = ()) -> Partition:
    return Partition(place="public", name=name, root="public.e", is_range=is_range, is_default=is_default, above=above)


def shape(name: str, bounds: str, *more: str) -> dict[str, str]:
    """What pg_dump says of a partition with an index, and of more objects of its table."""
    return {
        f"TABLE public.{name}": f"CREATE TABLE public.{name} (\n    at timestamptz\n);\n",
        f"TABLE ATTACH public.{name}": f"ALTER TABLE public.e ATTACH PARTITION public.{name} FOR VALUES {bounds};\n",
        f"INDEX public.{name}_at_idx": f"CREATE INDEX {name}_at_idx ON public.{name} USING btree (at);\n",
        **{f"{kind} public.{name}": f"{kind} ON public.{name};\n" for kind in more},
    }


def compared(wanted: Picture, found: Picture, *, run_time: tuple[str, ...] = (), roles: frozenset[str] = ANN) -> Result:
    return verify.compare(wanted, found, run_time=run_time, roles=roles)


MADE = Picture(shape("e_2026_11", MADE_BOUNDS, "ROW SECURITY"), (month("e_2026_11"),))


def test_another_month_that_is_made_like_the_files_months_is_no_difference() -> None:
    live = Picture(shape("e_2026_01", LIVE_BOUNDS, "ROW SECURITY"), (month("e_2026_01"),))
    assert compared(MADE, live) == Result((), ("PARTITION public.e_2026_01",))


def test_a_month_that_lacks_what_the_files_give_to_months_is_a_difference() -> None:
    live = Picture(shape("e_2026_01", LIVE_BOUNDS), (month("e_2026_01"),))
    (difference,) = compared(MADE, live).differences
    assert (difference.object, difference.kind) == ("PARTITION public.e_2026_01", Kind.CHANGED)
    assert "-ROW SECURITY ON public.<partition>;" in difference.diff.split("\n")


def test_a_month_that_both_have_is_compared_as_well() -> None:
    live = Picture(shape("e_2026_11", MADE_BOUNDS), (month("e_2026_11"),))
    assert [each.object for each in compared(MADE, live).differences] == ["PARTITION public.e_2026_11"]


def test_a_month_whose_name_begins_like_another_ones_is_told_from_it() -> None:
    both = (month("e_2026_11"), month("e_2026_1"))
    schema = {**shape("e_2026_11", MADE_BOUNDS, "ROW SECURITY"), **shape("e_2026_1", LIVE_BOUNDS, "ROW SECURITY")}
    assert compared(MADE, Picture(schema, both)) == Result((), ("PARTITION public.e_2026_1",))


def test_a_partition_of_a_partition_is_known_by_its_own_name() -> None:
    def nested(year: str, bounds: str) -> Picture:
        inner = shape(f"e_{year}_a", bounds)
        attach = f"TABLE ATTACH public.e_{year}_a"
        inner[attach] = inner[attach].replace("public.e ", f"public.e_{year} ")
        parts = (month(f"e_{year}_a", above=(f"e_{year}",)), month(f"e_{year}"))
        return Picture({**shape(f"e_{year}", bounds), **inner}, parts)

    found = compared(nested("2026", MADE_BOUNDS), nested("2027", LIVE_BOUNDS))
    assert found == Result((), ("PARTITION public.e_2027_a", "PARTITION public.e_2027"))


@pytest.mark.parametrize(
    "partition",
    [
        pytest.param(month("e_x", is_default=True), id="the default one"),
        pytest.param(month("e_x", is_range=False), id="one of some values"),
    ],
)
def test_a_partition_that_does_not_come_and_go_must_be_there(partition: Partition) -> None:
    wanted = Picture(shape("e_x", MADE_BOUNDS), (partition,))
    objects = [(each.object, each.kind) for each in compared(wanted, Picture({}, ())).differences]
    assert objects == [
        ("TABLE public.e_x", Kind.MISSING),
        ("TABLE ATTACH public.e_x", Kind.MISSING),
        ("INDEX public.e_x_at_idx", Kind.MISSING),
    ]
    assert compared(wanted, wanted) == Result((), ())


def test_a_partition_of_a_table_that_the_files_do_not_make_is_extra() -> None:
    live = Picture(shape("e_2026_01", LIVE_BOUNDS), (month("e_2026_01"),))
    kinds = [each.kind for each in compared(Picture({}, ()), live).differences]
    assert kinds == [Kind.EXTRA] * 3


@pytest.mark.parametrize(
    ("name", "text", "excused"),
    [
        pytest.param("INDEX public.ann_1", "CREATE INDEX;\n", True, id="an index"),
        pytest.param("COMMENT ON INDEX public.ann_1", "COMMENT;\n", True, id="its comment"),
        pytest.param("INDEX public.another", "CREATE INDEX;\n", False, id="another index"),
        pytest.param("INDEX public.ann_1", "x;\n-- It is not valid: PostgreSQL does not use it.\n", False, id="broken"),
    ],
)
def test_what_a_file_says_is_made_at_run_time_may_be_there_when_it_is_valid(
    name: str,
    text: str,
    excused: bool,  # noqa: FBT001
) -> None:
    found = compared(Picture({}, ()), Picture({name: text}, ()), run_time=("INDEX public.ann_*",))
    assert found.run_time == ((name,) if excused else ())
    assert [each.object for each in found.differences] == ([] if excused else [name])


def test_what_is_made_at_run_time_may_not_be_something_else_than_the_files_make() -> None:
    wanted, live = {"INDEX public.ann_1": "a\n"}, {"INDEX public.ann_1": "b\n"}
    found = compared(Picture(wanted, ()), Picture(live, ()), run_time=("INDEX public.ann_*",))
    assert [each.kind for each in found.differences] == [Kind.CHANGED]


@pytest.mark.parametrize(
    ("name", "wanted", "live", "same"),
    [
        pytest.param("TABLE t", "ALTER TABLE t OWNER TO ann;\n", "ALTER TABLE t OWNER TO bob;\n", True, id="owner"),
        pytest.param("TABLE t", "ALTER TABLE t OWNER TO ann;\n", "ALTER TABLE t OWNER TO eve;\n", False, id="stranger"),
        pytest.param("POLICY p", "CREATE POLICY p TO ann;\n", "CREATE POLICY p TO bob;\n", True, id="policy"),
        pytest.param("GRANTS ON t", "GRANT ALL TO ann;\n", "GRANT ALL TO bob;\n", False, id="grant"),
    ],
)
def test_those_who_apply_files_count_as_one_owner(name: str, wanted: str, live: str, same: bool) -> None:  # noqa: FBT001
    found = compared(Picture({name: wanted}, ()), Picture({name: live}, ()), roles=frozenset({"ann", "bob"}))
    assert (found.differences == ()) == same


def test_what_lets_somebody_apply_files_is_not_the_files_to_say() -> None:
    live = {"GRANTS ON SCHEMA public": "GRANT ALL ON SCHEMA public TO ann;\n"}
    assert compared(Picture({}, ()), Picture(live, ())) == Result((), ())
    more = {"GRANTS ON SCHEMA public": "GRANT ALL ON SCHEMA public TO ann;\nGRANT ALL ON SCHEMA public TO eve;\n"}
    assert len(compared(Picture({}, ()), Picture(more, ())).differences) == 1


def test_comments_of_extensions_are_not_ours() -> None:
    assert compared(Picture({"COMMENT ON EXTENSION vector": "a\n"}, ()), Picture({}, ())) == Result((), ())


def test_a_result_as_json() -> None:
    found = compared(Picture({"INDEX i": "CREATE INDEX i;\n"}, ()), Picture({}, ()))
    assert verify.result_object(found, server="docker", database="mordeaux") == {
        "server": "docker",
        "database": "mordeaux",
        "matches": False,
        "differences": [{"object": "INDEX i", "kind": "missing", "diff": "@@ -1 +0,0 @@\n-CREATE INDEX i;"}],
    }
