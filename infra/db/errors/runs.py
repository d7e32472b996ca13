"""Files against history: what stops a run, a way back, or a decision by hand."""

from __future__ import annotations

from infra.db.errors.base import CheckFailed, Interrupted, LockError, MigrationFailed, Refused, ToolError, UsageError


class DriftError(Refused):
    """Files and history disagree."""

    MEANING = {  # noqa: RUF012 - never changed
        "edited": (
            "was edited after it was applied",
            "undo the edit, or accept it:  invoke migrate-resolve {} --applied",
        ),
        "missing": (
            "was applied, but its file is gone",
            """bring its file back (another branch?),
    or undo the newest, this one by the history's copy of its down script:  invoke migrate-rollback
    or forget it:  invoke migrate-resolve {} --pending""",
        ),
        "out-of-order": (
            "was never applied, but newer files were",
            "give it the next free number, or run it all the same:  invoke migrate --out-of-order",
        ),
        "failed": (
            "failed half-way, without a transaction",
            """see what it left behind and mend it, then run it again:  invoke migrate-resolve {} --pending
    or, if it is complete now, say so:  invoke migrate-resolve {} --applied""",
        ),
    }

    def __init__(self, drift: list[tuple[str, str, str]], folder: str, diffs: str = "") -> None:
        """Say what disagrees and how each is settled.

        Args:
            drift: (status, version_name, when and by whom) of each.
            folder: where the files are.
            diffs: what was edited, as unified diffs.

        """
        where, ways = [], []
        for status, label, since in drift:
            meaning, way = self.MEANING[status]
            where.append(f"  {label} {meaning}" + (f" ({since})" if since else ""))
            ways.append(f"  {label}: {way.replace('{}', label.partition('_')[0])}")
        super().__init__(
            f"The files in {folder} and the database's history disagree.",
            where="\n".join(where) + (f"\n{diffs}" if diffs else ""),
            consequence="Nothing was changed.",
            next="\n".join(ways),
        )


class InsideSquash(Refused):
    """A database that stands between the first and the last of the files that were squashed into one."""

    def __init__(self, squash: str, replaced: tuple[str, str], applied: list[str]) -> None:
        """Say where it stands.

        Args:
            squash: the file that took their place.
            replaced: the first and the last file that it replaces.
            applied: what of them is applied.

        """
        first, last = replaced
        super().__init__(
            f"{squash} replaces {first} to {last}, and this database has only some of them, or has them otherwise.",
            where=f"  applied here: {', '.join(applied[:5])}"
            + (f" and {len(applied) - 5} more" if len(applied) > 5 else ""),
            consequence="Neither the one file nor the rest of the others would be right, so nothing was changed.",
            next=(
                f"Check out the last commit that has {last}.sql, bring the database up to it:\n"
                f"  invoke migrate --to {last.partition('_')[0]}\n"
                "Then come back to this one, and go on:  invoke migrate"
            ),
        )


class ForeignHistory(Refused):
    """The history table belongs to another tool."""

    # The columns by which the tables of other tools are known.
    OWNERS = {  # noqa: RUF012 - never changed
        ("version",): "dbmate's or Rails'",
        ("version", "dirty"): "golang-migrate's",
    }

    def __init__(self, table: str, columns: list[str]) -> None:
        """Say whose it looks like."""
        owner = self.OWNERS.get(tuple(columns), "another tool's")
        super().__init__(
            f"The table {table} is {owner}, not ours.",
            where=f"  its columns: {', '.join(columns)}",
            consequence="Nothing was changed.",
            next=(
                f"Rename it, then adopt the database as it is:\n"
                f'  invoke db.shell --command "ALTER TABLE {table} RENAME TO old_migrations"\n'
                f"  invoke migrate-baseline"
            ),
        )


class NotSingle(Refused):
    """--single, but some files want no transaction."""

    def __init__(self, labels: list[str]) -> None:
        """Say which."""
        super().__init__(
            "--single puts all files into one transaction, but these ask for none.",
            where="\n".join(f"  {label}" for label in labels),
            consequence="Nothing was changed.",
            next="Stop before the first of them (--to), or run without --single:  invoke migrate",
        )


class CannotUndo(Refused):
    """Versions whose down script is missing, or is another one than when they were applied."""

    def __init__(self, problems: list[tuple[str, bool, str]], folder: str) -> None:
        """Say what stands in the way and how each is settled.

        Args:
            problems: (version_name, whether its file is there, how its script differs; empty: it has none) of each.
            folder: where the files are.

        """
        where, ways = [], []
        for label, has_file, diff in problems:
            version = label.partition("_")[0]
            if diff:
                where.append(f"  {label}: its down script is another one than when it was applied\n{diff}")
                ways.append(f"  {label}: undo the edit, or accept it:  invoke migrate-resolve {version} --applied")
            elif has_file:
                where.append(f"  {label} has no down script")
                ways.append(
                    f"  {label}: write {folder}/{label}.down.sql, then:  invoke migrate-resolve {version} --applied\n"
                    f"    or undo it by hand, then:  invoke migrate-resolve {version} --pending"
                )
            else:
                where.append(f"  {label} has no down script: its file is gone, and the history keeps none")
                ways.append(
                    f"  {label}: bring its file back (another branch?) and write its down script,\n"
                    f"    or undo it by hand, then:  invoke migrate-resolve {version} --pending"
                )
        super().__init__(
            "Not everything of this can be undone.",
            where="\n".join(where),
            consequence="Nothing was changed.",
            next="\n".join(ways),
        )


class HistoryMoved(Refused):
    """Something newer was applied after a rollback was planned."""

    def __init__(self, newer: list[str]) -> None:
        """Name it."""
        super().__init__(
            "Another run has applied something newer in the meantime.",
            where="\n".join(f"  {label}" for label in newer),
            consequence="So the plan that was shown does not hold any more, and it was not carried out any further.",
            next="Look at the plan again:  invoke migrate-rollback --plan",
        )


class HowFar(UsageError):
    """How far to go back makes no sense."""

    def __init__(self) -> None:
        """Say what does."""
        super().__init__(
            "How far to go back is not clear.",
            consequence="Nothing was changed.",
            next=(
                "A number of files, 1 or more:         invoke migrate-rollback --steps 2\n"
                "Or the version that stays the newest:  invoke migrate-rollback --to 007"
            ),
        )


class SayWhich(UsageError):
    """migrate-resolve without, or with both of, its flags."""

    def __init__(self, version: str) -> None:
        """Show both."""
        super().__init__(
            "Say how to settle it: either --applied or --pending.",
            consequence="Nothing was changed.",
            next=f"Its file stands for what the database has:  invoke migrate-resolve {version} --applied\n"
            f"It is to run again:  invoke migrate-resolve {version} --pending",
        )


class NoFile(UsageError):
    """A version whose file is gone cannot be recorded as it stands."""

    def __init__(self, label: str) -> None:
        """Say which."""
        super().__init__(
            f"{label} has no file that could be recorded as applied.",
            consequence="Nothing was changed.",
            next=f"Bring the file back, or forget it:  invoke migrate-resolve {label.partition('_')[0]} --pending",
        )


class NotApplied(UsageError):
    """A version without a history row cannot be forgotten."""

    def __init__(self, label: str) -> None:
        """Say which."""
        super().__init__(f"{label} is pending already.", consequence="Nothing was changed.", next="invoke migrate")


class NotRecorded(ToolError):
    """psql reported success, but the history does not have it: never to be believed."""

    def __init__(self, labels: list[str]) -> None:
        """Say what is missing."""
        super().__init__(
            "psql reported success, but the history does not agree about these files.",
            where="\n".join(f"  {label}" for label in labels),
            consequence="Their changes may be there or not; look before you go on.",
            next="invoke migrate-status",
        )


class RunIsHeld(LockError):
    """Another run held the lock for too long."""

    def __init__(self, holder: str, pid: int, waited: float) -> None:
        """Say who holds it."""
        super().__init__(
            f"Another run still works on this database after {waited:.0f} s.",
            where=f"  {holder}",
            consequence="Nothing was changed by this run.",
            next=(
                "Wait for it, or raise DB_WAIT_TIMEOUT. If it hangs, end it; its open transaction is rolled back:\n"
                f'  invoke db.shell --command "SELECT pg_terminate_backend({pid})"'
            ),
        )


class TableIsHeld(LockError):
    """A table lock could not be had after all retries.

    Attributes:
        failure: the migration's failure, for the JSON output.

    """

    def __init__(self, failure: MigrationFailed, blockers: list[str], tries: int) -> None:
        """Say who holds what."""
        who = "\n".join(f"  held by {blocker}" for blocker in blockers) or "  whoever held it has let go since"
        super().__init__(
            f"{failure.version}_{failure.name} could not get its lock in {tries} tries: {failure.message}",
            where=f"{failure.where}\n{who}",
            consequence=failure.consequence,
            next=(
                "Run it again when the other session is done:  invoke migrate\n"
                "Or give it longer, by DB_LOCK_RETRIES or, in the file, '-- migrate: lock-timeout 30s'."
            ),
        )
        self.failure = failure


class HistoryIsHeld(LockError):
    """The history cannot be read at this moment."""

    def __init__(self, table: str, holder: str) -> None:
        """Say who has it, if that is a run."""
        super().__init__(
            f"The history of migrations ({table}) is locked by another session.",
            where=f"  {holder}" if holder else "",
            consequence="So nothing can be said about it, and nothing was changed.",
            next="Run the same command again when that session is done.",
        )


class CheckPending(CheckFailed):
    """`migrate-status --check` found something to do."""

    def __init__(self, counts: list[str]) -> None:
        """Say what."""
        super().__init__(f"The database is not up to date: {', '.join(counts)}.", next="invoke migrate --plan")


class Cancelled(Interrupted):
    """Ctrl-C or SIGTERM outside of a migration."""

    def __init__(self) -> None:
        """Say that nothing is half done."""
        super().__init__("Interrupted.", consequence="No migration was running.", next="Run the same command again.")
