"""What each of squawk's rules means here: how grave it is, when it matters, its words, the safe way. Only data.

squawk knows the statement; this table knows the run: every file has a transaction of its own and a lock_timeout, a
failed file is rolled back, and the programs that use the database are still the old ones while it runs. What breaks
or locks hard is an error; what loses something that was asked to be lost, a warning; style, nothing.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

TRANSACTION_CONTROL = "transaction-nesting"
CONCURRENTLY = "ban-concurrent-index-creation-in-transaction"
HARD = (TRANSACTION_CONTROL, CONCURRENTLY)  # cannot be wrong: `migrate` refuses them too, so nothing excuses them
UNREADABLE = "syntax-error"  # squawk's parser stopped; it then checks no rule in that file
UNCHECKED = "not-checked"  # ours: the file is too large


class Level(enum.StrEnum):
    """How grave; the words are those of the JSON output."""

    ERROR = "error"
    WARNING = "warning"


class Matters(enum.Enum):
    """For which tables a finding matters; one that was made in the same run is nobody's yet."""

    ALWAYS = "whatever the table"
    IN_USE = "a table that is not new: programs use it"
    FILLED = "a table that is not new and has rows"
    LARGE = "a table that is not new and not small: the lock lasts as long as the work"


class Rule(NamedTuple):
    """One rule.

    Attributes:
        level: how grave it is.
        matters: for which tables.
        message: what it locks or breaks, `{table}` for the table; empty for squawk's own words.
        help: the safe way; empty for squawk's own words.

    """

    level: Level
    matters: Matters
    message: str = ""
    help: str = ""


ERROR, WARNING = Level.ERROR, Level.WARNING
ALWAYS, IN_USE, FILLED, LARGE = Matters.ALWAYS, Matters.IN_USE, Matters.FILLED, Matters.LARGE
ALONE = "in a file of its own that begins with '-- migrate: no-transaction'"
LATER = "Add it NOT VALID here, and VALIDATE CONSTRAINT in a later file: the check then stops nobody."
RELEASE = "First release programs that do without it; a copy of the data:  invoke migrate --backup"

RULES = {
    # What cannot work.
    TRANSACTION_CONTROL: Rule(
        ERROR,
        ALWAYS,
        "opens or ends a transaction; each file already runs in one, with its history row",
        "Remove the BEGIN, COMMIT or ROLLBACK, or begin the file with '-- migrate: no-transaction'.",
    ),
    CONCURRENTLY: Rule(
        ERROR,
        ALWAYS,
        "builds an index CONCURRENTLY, which PostgreSQL does not do inside a transaction",
        f"Put it {ALONE}.",
    ),
    "ban-uncommitted-transaction": Rule(
        ERROR, ALWAYS, "opens a transaction and never ends it, so what follows is lost", "End it with COMMIT."
    ),
    "ban-duplicate-column-assignments": Rule(ERROR, ALWAYS),
    "adding-required-field": Rule(
        ERROR,
        FILLED,
        "fails as soon as {table} has rows: the new column is NOT NULL and has no default",
        "Give it a constant DEFAULT, or add it nullable, fill it, then set it NOT NULL.",
    ),
    # What locks for as long as the work takes.
    "require-concurrent-index-creation": Rule(
        ERROR,
        LARGE,
        "stops every write to {table} until the index is built",
        f"CREATE INDEX CONCURRENTLY, {ALONE}.",
    ),
    "require-concurrent-reindex": Rule(
        ERROR,
        LARGE,
        "stops every write to {table}, and every read by that index, until it is built anew",
        f"REINDEX ... CONCURRENTLY, {ALONE}.",
    ),
    "adding-foreign-key-constraint": Rule(
        ERROR,
        LARGE,
        "stops every write to {table}, and to the table it refers to, until each row is checked",
        LATER,
    ),
    "constraint-missing-not-valid": Rule(
        ERROR, LARGE, "holds its lock on {table} until each row is checked: no writes, for CHECK no reads either", LATER
    ),
    "disallowed-unique-constraint": Rule(
        ERROR,
        LARGE,
        "stops every read and write of {table} until its index is built",
        f"CREATE UNIQUE INDEX CONCURRENTLY, {ALONE}; in the next, ADD CONSTRAINT ... UNIQUE USING INDEX.",
    ),
    "adding-serial-primary-key-field": Rule(
        ERROR,
        LARGE,
        "stops every read and write of {table} until its index is built",
        f"CREATE UNIQUE INDEX CONCURRENTLY, {ALONE}; in the next, ADD CONSTRAINT ... PRIMARY KEY USING INDEX.",
    ),
    "adding-field-with-default": Rule(
        ERROR,
        LARGE,
        "writes {table} anew, and stops every read and write of it meanwhile",
        "Add the column without the default, then SET DEFAULT, then fill the old rows in batches.",
    ),
    "adding-not-nullable-field": Rule(
        ERROR,
        LARGE,
        "reads all of {table}, and stops every read and write of it meanwhile",
        "ADD CONSTRAINT ... CHECK (column IS NOT NULL) NOT VALID here; in the next file VALIDATE it,"
        " then SET NOT NULL.",
    ),
    "changing-column-type": Rule(
        ERROR,
        LARGE,
        "may write {table} and its indexes anew, and stops every read and write of it meanwhile",
        "Add a new column, fill it in batches, let the programs change over, drop the old one."
        " A longer varchar, or varchar to text, rewrites nothing: excuse it.",
    ),
    "ban-alter-domain-with-add-constraint": Rule(
        ERROR,
        ALWAYS,
        "reads every table that uses the domain, and stops writes to them meanwhile",
        "Add the constraint NOT VALID, or put it on the columns.",
    ),
    "prefer-repack": Rule(  # VACUUM FULL and CLUSTER; squawk says it from PostgreSQL 19 on, which has REPACK
        ERROR,
        LARGE,
        "writes {table} anew, and stops every read and write of it meanwhile",
        "REPACK (CONCURRENTLY) does it while the table is in use.",
    ),
    # What locks briefly, but hard.
    "require-concurrent-index-deletion": Rule(
        WARNING,
        LARGE,
        "waits until nobody uses {table}, and stops every read and write of it until then",
        f"DROP INDEX CONCURRENTLY, {ALONE}.",
    ),
    "require-concurrent-partition-detach": Rule(
        WARNING,
        LARGE,
        "waits until nobody uses {table}, and stops every read and write of it until then",
        f"DETACH PARTITION ... CONCURRENTLY, {ALONE}.",
    ),
    # What breaks the programs that are running.
    "renaming-column": Rule(
        ERROR,
        IN_USE,
        "breaks every program that knows the column of {table} by its old name, at once",
        "Add a new column, keep both in step, let the programs change over, drop the old one later.",
    ),
    "renaming-table": Rule(
        ERROR,
        IN_USE,
        "breaks every program that knows {table} by its old name, at once",
        "Leave a view with the old name behind, in the same file, until no program uses it.",
    ),
    "ban-set-schema": Rule(
        ERROR,
        IN_USE,
        "breaks every program that looks for it where it was, at once",
        "Leave a view in the old place, in the same file, until no program uses it.",
    ),
    "ban-truncate-cascade": Rule(
        ERROR,
        ALWAYS,
        "empties {table} and every table that refers to it, however far away",
        "Name all the tables that are to be emptied, without CASCADE.",
    ),
    "ban-drop-database": Rule(
        ERROR,
        ALWAYS,
        "deletes a whole database, and does not run inside a transaction",
        "To empty this one: migrate-reset",
    ),
    # What was asked to be lost.
    "ban-drop-table": Rule(WARNING, IN_USE, "deletes {table} with its rows; programs that still use it fail", RELEASE),
    "ban-drop-column": Rule(
        WARNING, IN_USE, "deletes a column of {table} with its data; programs that still use it fail", RELEASE
    ),
    "ban-drop-schema": Rule(WARNING, ALWAYS, "deletes a schema; programs that still use what is in it fail", RELEASE),
    "ban-drop-extension": Rule(WARNING, ALWAYS, "deletes an extension with all its types and functions", RELEASE),
    **{
        f"ban-drop-{kind}": Rule(
            WARNING,
            ALWAYS,
            f"drops a {kind}; programs that still use it fail",
            "First release programs that do without it.",
        )
        for kind in ("view", "function", "type", "sequence", "domain")
    },
    "ban-drop-not-null": Rule(
        WARNING,
        IN_USE,
        "lets NULL into a column of {table}, which its programs do not expect",
        "First release programs that can read a NULL there.",
    ),
    "ban-drop-default": Rule(
        WARNING,
        IN_USE,
        "programs that leave the column of {table} out write NULL from now on, or fail",
        "First release programs that give a value.",
    ),
    "ban-drop-constraint": Rule(
        WARNING,
        IN_USE,
        "nothing stops wrong rows in {table} from now on, and what came in stays when it is put back",
        "Add the new constraint before the old one goes.",
    ),
    "ban-drop-generated-expression": Rule(
        WARNING,
        IN_USE,
        "the column of {table} keeps its values and is computed no more",
        "First release programs that write it.",
    ),
    "ban-alter-identity": Rule(
        WARNING,
        IN_USE,
        "changes who gives the column of {table} its value; programs that write it may fail",
        "First release programs that fit.",
    ),
    "renaming-object": Rule(WARNING, IN_USE),
    # What will be wrong later, in silence.
    "prefer-timestamp-tz": Rule(
        WARNING,
        ALWAYS,
        "a timestamp without time zone means another moment to each program's time zone",
        "Use timestamptz.",
    ),
    "ban-char-field": Rule(WARNING, ALWAYS, "char(n) fills up with blanks, which comparisons then ignore", "Use text."),
    "identifier-too-long": Rule(WARNING, ALWAYS, help="Give it a name of at most 63 bytes."),
    # What squawk could not look at.
    UNREADABLE: Rule(
        WARNING,
        ALWAYS,
        "squawk cannot read this, so nothing else in the file was checked",
        "Mend it; if PostgreSQL takes it as it is, excuse it.",
    ),
    UNCHECKED: Rule(
        WARNING,
        ALWAYS,
        "the file is larger than 1 MB, so nothing in it was checked",
        "Put the statements into a file of their own, beside the data.",
    ),
}

# What squawk would say, too, and why it is not said here.
OFF = {
    **dict.fromkeys(
        ("require-timeout-settings", "require-lock-timeout", "require-statement-timeout"),
        "the run sets lock_timeout for every file, and lets a statement take its time on purpose",
    ),
    "prefer-robust-stmts": (
        "a failed file is rolled back, or marked failed; and IF NOT EXISTS would keep the invalid index that a"
        " failed CREATE INDEX CONCURRENTLY leaves"
    ),
    "unused-ignore": "squawk's own comments are not heard; '-- migrate: allow' has a reason",
    "require-table-schema": "the run sets search_path to public",
    **dict.fromkeys(
        (
            "prefer-bigint-over-int",
            "prefer-bigint-over-smallint",
            "prefer-identity",
            "prefer-text-field",
            "require-enum-value-ordering",
            "ban-create-domain-with-constraint",
        ),
        "style: a choice of the design, which locks and breaks nothing",
    ),
    **dict.fromkeys(
        (
            "ban-add-column",
            "ban-add-composite-attribute",
            "ban-add-enum-value",
            "ban-alter-database-options",
            "ban-alter-extension",
            "ban-alter-function-options",
            "ban-alter-generated-expression",
            "ban-alter-policy-condition",
            "ban-alter-policy-roles",
            "ban-alter-role-options",
            "ban-alter-row-level-security",
            "ban-alter-sequence-values",
            "ban-alter-system-options",
            "ban-alter-view-options",
            "ban-create-policy",
            "ban-detach-inheritance",
            "ban-disable-trigger",
            "ban-drop-index",
            "ban-drop-policy",
            "ban-drop-trigger",
            "ban-new-write-restriction",
            "ban-replace-view-function",
            "ban-replica-identity",
            "ban-revoke",
            "ban-set-default",
        ),
        "squawk leaves it off: it is what such a statement is for, and a reader sees it",
    ),
}

# Said of one place by two rules: the first is left out where one of the others speaks of the same text.
SAID_BETTER = {
    "constraint-missing-not-valid": (
        "adding-foreign-key-constraint",
        "disallowed-unique-constraint",
        "adding-serial-primary-key-field",
    ),
    "ban-uncommitted-transaction": (TRANSACTION_CONTROL,),
}


def why_not_allowed(rule: str, reason: str) -> str:
    """Say why a file cannot be excused from a rule; nothing when it can."""
    if rule in HARD:
        return f"nothing excuses {rule}: such a file cannot run"
    if rule not in RULES and rule not in OFF:
        return f"there is no rule {rule!r} to allow; migrate-lint names the rule of each finding"
    return "" if reason.strip() else f"say why: '-- migrate: allow {rule} REASON'"
