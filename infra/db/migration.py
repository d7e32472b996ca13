"""A folder of SQL files in, ordered Migration values out: names, checksums, directives, down scripts.

A file is read as a stream, so its size does not matter; its text is kept only up to `KEPT_TEXT`.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from infra.db.errors import FilesError, UsageError
from infra.db.rules import why_not_allowed
from infra.db.settings import duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_NAME = re.compile(r"(?P<version>[0-9]+)_(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*?)(?P<down>\.down)?\.sql")
DIRECTIVE = re.compile(r"--\s*migrate:\s*(?P<word>\S*)\s*(?P<value>.*?)\s*")
REPLACED = re.compile(r"(?P<label>[0-9]+_\S+) (?P<checksum>v[0-9]+:\S+)")
COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
LEADING = re.compile(r"(?:\s*(?:--[^\n]*(?:\n|\Z)|/\*.*?\*/))*\s*", re.DOTALL)
LONGEST_VERSION = 18  # digits; what fits a bigint, should a database ever be read by other tools
CHUNK = 1 << 20  # bytes
KEPT_TEXT = 1 << 20  # bytes of SQL that the history keeps; a larger file is recorded by its checksum alone
CHECKSUM_RULE = "v1"  # names the rule in `Text.checksum`, so that another rule can follow one day


class Text(NamedTuple):
    """What a file says.

    Attributes:
        checksum: `v1:` and the SHA-256 of the text without BOM and with LF line ends, in hexadecimal.
        sql: that text; None when it is longer than `KEPT_TEXT`.
        head: its leading comment lines.

    """

    checksum: str
    sql: str | None
    head: tuple[str, ...]


class Replaced(NamedTuple):
    """A file that was squashed into another one.

    Attributes:
        label: version_name.
        checksum: of its text.

    """

    label: str
    checksum: str

    @property
    def number(self) -> int:
        """The place in the order."""
        return int(self.label.partition("_")[0])


class Directives(NamedTuple):
    """What a file asks for in `-- migrate:` comments at its top.

    Attributes:
        transaction: False when its statements run one by one, outside a transaction.
        lock_timeout: its own lock_timeout; None for the setting's.
        allow: lint rules it is excused from, with the reason.
        replaces: the files that it was squashed from, in order.
        run_time: objects that what it makes will make later, by patterns like `INDEX public.faces_of_*`.

    """

    transaction: bool = True
    lock_timeout: str | None = None
    allow: tuple[tuple[str, str], ...] = ()
    replaces: tuple[Replaced, ...] = ()
    run_time: tuple[str, ...] = ()


class Migration(NamedTuple):
    """One numbered change and, beside it, what undoes it.

    Attributes:
        version: the digits of the file name, leading zeros included.
        name: the words of the file name.
        path: the file; None when it is the history's copy of one.
        text: what it says.
        directives: what it asks for.
        down_path: the file that undoes it, if there is one.
        down: what that says.
        undo: whether it is a down script, which takes back what this version did.

    """

    version: str
    name: str
    path: Path | None
    text: Text
    directives: Directives
    down_path: Path | None = None
    down: Text | None = None
    undo: bool = False

    @property
    def number(self) -> int:
        """The place in the order; 9, 09 and 009 are the same place."""
        return int(self.version)

    @property
    def label(self) -> str:
        """How it is called in messages."""
        return f"{self.version}_{self.name}"

    @property
    def file_name(self) -> str:
        """The name of its file, also when only a copy is left."""
        return self.path.name if self.path else f"{self.label}{'.down' if self.undo else ''}.sql"


def undoing(version: str, name: str, text: Text, path: Path | None) -> Migration:
    """Return a down script as a step of a run.

    Args:
        version: what it takes back.
        name: likewise.
        text: what it says.
        path: its file; None when it is the history's copy.

    Raises:
        FilesError: its directives make no sense.

    """
    try:
        asked = directives(f"{version}_{name}.down.sql", text.head)
    except _BadFile as error:
        raise FilesError([str(error)]) from None
    return Migration(version=version, name=name, path=path, text=text, directives=asked, undo=True)


def remembered(version: str, name: str, sql: str) -> Migration:
    """Return what ran, as the history keeps it.

    Raises:
        FilesError: its directives make no sense (any more).

    """
    text = kept_text(sql)
    try:
        asked = directives(f"{version}_{name}.sql", text.head)
    except _BadFile as error:
        raise FilesError([str(error)]) from None
    return Migration(version=version, name=name, path=None, text=text, directives=asked)


def read_folder(folder: Path, shown: str) -> tuple[Migration, ...]:
    """Read all migrations of a folder, in order.

    Args:
        folder: where the files are.
        shown: the folder as people type it, for messages.

    Raises:
        UsageError: the folder is missing.
        FilesError: files that make no sense, all of them at once.

    """
    if not folder.is_dir():
        raise UsageError(
            f"There is no folder {shown}.",
            consequence="Nothing was started or changed.",
            next="Set MIGRATIONS_DIR to the folder with your NNN_name.sql files.",
        )
    problems: list[str] = []
    ups: dict[str, tuple[re.Match[str], Path]] = {}
    downs: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith(".") or path.suffix.lower() != ".sql":
            continue
        named = FILE_NAME.fullmatch(path.name)
        if problem := _name_problem(path, named):
            problems.append(f"{shown}/{path.name}: {problem}")
        elif named and named["down"]:
            downs[f"{named['version']}_{named['name']}"] = path
        elif named:
            ups[f"{named['version']}_{named['name']}"] = named, path
    same = _same_numbers(ups)
    problems += [
        f"{' and '.join(f'{shown}/{name}' for name in names)}: they have one number; only one file can"
        for names in same
    ]
    problems += [
        f"{shown}/{path.name}: there is no {label}.sql that it could undo"
        for label, path in downs.items()
        if label not in ups
    ]
    migrations = []
    for label, (named, path) in ups.items():
        try:
            migrations.append(_read(named, path, downs.get(label)))
        except _BadFile as error:
            problems.append(f"{shown}/{error}")
    if problems:
        raise FilesError(problems, same)
    return tuple(sorted(migrations, key=lambda migration: migration.number))


class _BadFile(Exception):
    """A file whose content makes no sense: `name:line: why`."""


def _name_problem(path: Path, named: re.Match[str] | None) -> str:
    if named is None:
        return "is not named NNN_name.sql or NNN_name.down.sql (digits, underscore, letters)"
    if len(named["version"]) > LONGEST_VERSION:
        return f"its number has more than {LONGEST_VERSION} digits"
    if path.is_file():
        return ""
    if path.is_dir():
        return "is a folder"
    return "is a link to nothing" if path.is_symlink() else "is not a regular file"


def _same_numbers(ups: dict[str, tuple[re.Match[str], Path]]) -> list[list[str]]:
    """Return the names of the files that have one number between them, for each such number."""
    names: dict[int, list[str]] = {}
    for named, path in ups.values():
        names.setdefault(int(named["version"]), []).append(path.name)
    return [group for group in names.values() if len(group) > 1]


def _read(named: re.Match[str], path: Path, down_path: Path | None) -> Migration:
    text = read_text(path)
    down = read_text(down_path) if down_path else None
    if down_path and down:
        directives(down_path.name, down.head)  # a fault in it should not wait for the night it is needed
    return Migration(
        version=named["version"],
        name=named["name"],
        path=path,
        text=text,
        directives=directives(path.name, text.head),
        down_path=down_path,
        down=down,
    )


def kept_text(sql: str) -> Text:
    """Return the Text of SQL that the history kept."""
    return Text(checksum=f"{CHECKSUM_RULE}:{hashlib.sha256(sql.encode()).hexdigest()}", sql=sql, head=_head(sql))


def checksum(path: Path) -> str:
    """Return the checksum of one file; empty when it cannot have been applied as it is."""
    try:
        return read_text(path).checksum
    except _BadFile:
        return ""


def read_text(path: Path) -> Text:
    """Read, check and fingerprint one file as a stream."""
    digest = hashlib.sha256()
    kept: list[bytes] | None = []
    length = 0
    for piece in _normal(path):
        digest.update(piece)
        length += len(piece)
        if kept is not None:
            kept.append(piece)
            if length > KEPT_TEXT:
                says_something, head = True, _head(b"".join(kept).decode(errors="ignore"))  # cut within a letter
                kept = None
    sql = None if kept is None else b"".join(kept).decode()
    if sql is not None:
        says_something, head = bool(COMMENT.sub("", sql).strip()), _head(sql)
    if not says_something:
        why = "holds nothing but comments" if sql and sql.strip() else "is empty"
        raise _BadFile(f"{path.name}: {why}; write its SQL or remove the file")
    return Text(checksum=f"{CHECKSUM_RULE}:{digest.hexdigest()}", sql=sql, head=head)


def _normal(path: Path) -> Iterator[bytes]:
    """Yield the file without BOM and with LF line ends; refuse what psql would misread in silence.

    Most chunks are passed on as they were read, and lines are only counted for who has to know: a large file is read
    twice as fast.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    position, held, has_ends, has_lone_returns = 0, b"", False, False
    try:
        with path.open("rb", buffering=0) as file:
            while True:
                data = file.read(CHUNK)
                if not position and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    raise _BadFile(f"{path.name}: is UTF-16; save it as UTF-8")
                if (nul := data.find(0)) >= 0:
                    at = _line(path, position + nul)
                    raise _BadFile(f"{path.name}:{at}: holds a NUL byte, at which psql drops the rest of the line")
                decoder.decode(data, final=not data)
                piece = held + (data if position else data.removeprefix(codecs.BOM_UTF8))
                held = b"\r" if data.endswith(b"\r") else b""  # its LF may be in the next chunk
                if b"\r" in piece:
                    piece = piece.removesuffix(held).replace(b"\r\n", b"\n")
                    has_lone_returns |= b"\r" in piece
                has_ends |= b"\n" in piece
                position += len(data)
                yield piece
                if not data:
                    break
    except UnicodeDecodeError as error:
        at = _line(path, position + len(data) - len(error.object) + error.start)
        byte = error.object[error.start]
        raise _BadFile(f"{path.name}:{at}: is not UTF-8 (byte 0x{byte:02x}); save it as UTF-8") from None
    except OSError as error:
        raise _BadFile(f"{path.name}: cannot be read ({error.strerror})") from None
    if has_lone_returns and not has_ends:
        raise _BadFile(
            f"{path.name}: its lines end in a lone CR, so the first -- comment would hide the rest; save it with LF"
        )


def _line(path: Path, position: int) -> int:
    """Return the number of the line at a position, in bytes."""
    with path.open("rb") as file:
        return 1 + sum(file.read(min(CHUNK, position - at)).count(b"\n") for at in range(0, position, CHUNK))


def _head(sql: str) -> tuple[str, ...]:
    """Return the comment and blank lines before the first statement."""
    length = found.end() if (found := LEADING.match(sql)) else 0
    return tuple(line.strip() for line in sql[:length].split("\n")[:-1])


def directives(file_name: str, head: tuple[str, ...]) -> Directives:
    """Read the `-- migrate:` lines at the top of a file."""
    transaction, lock_timeout = True, None
    allow: list[tuple[str, str]] = []
    replaces: list[Replaced] = []
    run_time: list[str] = []
    for number, line in enumerate(head, start=1):
        said = DIRECTIVE.fullmatch(line)
        try:
            match said and (said["word"], said["value"]):
                case None:
                    pass
                case "no-transaction", "":
                    transaction = False
                case "lock-timeout", value:
                    lock_timeout = _lock_timeout(value)
                case "allow", value if value:
                    allow.append(_allowed(value))
                case "replaces", value if found := REPLACED.fullmatch(value):
                    replaces.append(Replaced(found["label"], found["checksum"]))
                case "run-time", value if " " in value:
                    run_time.append(value)
                case word, value:
                    _refuse(word, value)
        except ValueError as error:
            raise _BadFile(f"{file_name}:{number}: {error}") from None
    return Directives(
        transaction=transaction,
        lock_timeout=lock_timeout,
        allow=tuple(allow),
        replaces=tuple(replaces),
        run_time=tuple(run_time),
    )


def _lock_timeout(value: str) -> str:
    try:
        return duration(value)
    except ValueError as error:
        raise ValueError(f"lock-timeout {value!r} {error}") from None


def _allowed(value: str) -> tuple[str, str]:
    rule, _, reason = value.partition(" ")
    if why := why_not_allowed(rule, reason):
        raise ValueError(why)
    return rule, reason.strip()


def _refuse(word: str, value: str) -> None:
    raise ValueError(
        f"'-- migrate: {word}{' ' + value if value else ''}' says nothing we know;"
        " it is one of: no-transaction, lock-timeout 30s, allow RULE reason, run-time INDEX public.name_*"
    )
