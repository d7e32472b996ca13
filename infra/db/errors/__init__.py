"""Every failure that is expected, with its words and its exit code.

    ToolError                1    unexpected; and the base of all others
    |-- UsageError           2    settings, arguments or files that make no sense
    |-- MigrationFailed      3    a file failed; it was rolled back, or is marked failed
    |-- Refused              4    drift, out of order, a failed file to settle, findings
    |-- ServerError          5    the server could not be started, reached or made ready
    |-- LockError            6    another run, or a table lock, could not be waited out
    |-- CheckFailed          7    `--check`: pending or drifted
    `-- Interrupted        130    cancelled and rolled back

These are in `base`. Below them, by module and exit code:

    inputs        2  SettingsError, DotenvNotUtf8, PackageMissing, FilesError, NumberTaken, NameUnusable, NotAPair,
                     UpToWhich, NothingToSquash
                  4  NotConfirmed, AppliedAlready, CannotWork, LintFindings, NotCommitted, GitFailed
    runs          1  NotRecorded
                  2  HowFar, SayWhich, NoFile, NotApplied
                  4  DriftError, InsideSquash, ForeignHistory, NotSingle, CannotUndo, HistoryMoved
                  6  RunIsHeld, TableIsHeld, HistoryIsHeld
                  7  CheckPending
                130  Cancelled
    connection    4  NotStopped, NotDeleted, LogElsewhere
                  5  NotRunning, NotReady, ServerLost, ServerTooOld, PoolerInBetween, ReadOnlyServer, WrongEncoding,
                     NoRight, ClientMissing, ConnectionFailed, DatabaseMissing, PasswordRefused, RoleRefused,
                     DatabaseClosed, ConnectionRefused, HostUnknown, HostUnreachable, NotPostgres, TlsRequired,
                     TlsNotOffered, CertificateRefused, TlsSettings, NotAdmitted, ServerFull
    container     2  ComposeFileError, ComposeUnsupported
                  5  EngineUnavailable, EngineElsewhere, EngineFailed, ImageMissing, PortTaken, NameConflict,
                     OtherCheckout, PortDiffers, ContainerExited, ContainerPaused, HalfInitialised, OtherPassword,
                     OtherRole, OtherDatabase, WrongServer, ProgramMissing, InUse, NoShell
    embedded      2  NoPassword
                  5  NoEmbedded, FolderClosed, FolderNotOurs, FolderOfVersion, EmbeddedPortTaken, PortForbidden,
                     EmbeddedFailed, EmbeddedGone, EmbeddedPassword, WrongEmbedded
    keeping       2  BackupExists, NotABackup
                  4  BackupFailed, BackupDamaged, BackupTooNew, RestoreFailed, ResetRefused
                  6  BackupBlocked, RestoreBlocked, ResetBlocked
                130  RestoreInterrupted
    trials        3  TrialFailed
                  4  NotTheSame, SquashDiffers, SqlGone, NotRebuilt, SchemaDiffers, RehearsalFailed
                  5  NoScratch, CopyFailed, SchemaUnread
                130  RehearsalStopped
    views         2  NoSuchTable, NotACount, NoMarkers, NoReadme
                  4  DocsStale
                  5  ListingFailed
                  6  LookBlocked

An error says four things: what happened, where, what follows from it, and what to type next. The
sentences of a kind of failure are built in its class, so that one place holds the words.
"""

from __future__ import annotations

from infra.db.errors.base import (
    CheckFailed,
    Interrupted,
    LockError,
    MigrationFailed,
    Refused,
    ServerError,
    ToolError,
    UsageError,
)
from infra.db.errors.connection import (
    Attempt,
    CertificateRefused,
    ClientMissing,
    ConnectionFailed,
    ConnectionRefused,
    DatabaseClosed,
    DatabaseMissing,
    HostUnknown,
    HostUnreachable,
    LogElsewhere,
    NoRight,
    NotAdmitted,
    NotDeleted,
    NotPostgres,
    NotReady,
    NotRunning,
    NotStopped,
    PasswordRefused,
    PoolerInBetween,
    ReadOnlyServer,
    RoleRefused,
    ServerFull,
    ServerLost,
    ServerTooOld,
    TlsNotOffered,
    TlsRequired,
    TlsSettings,
    WrongEncoding,
)
from infra.db.errors.container import (
    ComposeFileError,
    ComposeUnsupported,
    ContainerExited,
    ContainerPaused,
    EngineElsewhere,
    EngineFailed,
    EngineUnavailable,
    HalfInitialised,
    ImageMissing,
    InUse,
    NameConflict,
    NoShell,
    OtherCheckout,
    OtherDatabase,
    OtherPassword,
    OtherRole,
    PortDiffers,
    PortTaken,
    ProgramMissing,
    WrongServer,
)
from infra.db.errors.embedded import (
    EmbeddedFailed,
    EmbeddedGone,
    EmbeddedPassword,
    EmbeddedPortTaken,
    FolderClosed,
    FolderNotOurs,
    FolderOfVersion,
    NoEmbedded,
    NoPassword,
    PortForbidden,
    WrongEmbedded,
)
from infra.db.errors.inputs import (
    AppliedAlready,
    CannotWork,
    DotenvNotUtf8,
    FilesError,
    GitFailed,
    LintFindings,
    NameUnusable,
    NotAPair,
    NotCommitted,
    NotConfirmed,
    NothingToSquash,
    NumberTaken,
    PackageMissing,
    SettingsError,
    UpToWhich,
)
from infra.db.errors.keeping import (
    BackupBlocked,
    BackupDamaged,
    BackupExists,
    BackupFailed,
    BackupTooNew,
    NotABackup,
    ResetBlocked,
    ResetRefused,
    RestoreBlocked,
    RestoreFailed,
    RestoreInterrupted,
)
from infra.db.errors.runs import (
    Cancelled,
    CannotUndo,
    CheckPending,
    DriftError,
    ForeignHistory,
    HistoryIsHeld,
    HistoryMoved,
    HowFar,
    InsideSquash,
    NoFile,
    NotApplied,
    NotRecorded,
    NotSingle,
    RunIsHeld,
    SayWhich,
    TableIsHeld,
)
from infra.db.errors.trials import (
    CopyFailed,
    NoScratch,
    NotRebuilt,
    NotTheSame,
    RehearsalFailed,
    RehearsalStopped,
    SchemaDiffers,
    SchemaUnread,
    SqlGone,
    SquashDiffers,
    TrialFailed,
)
from infra.db.errors.views import (
    DocsStale,
    ListingFailed,
    LookBlocked,
    NoMarkers,
    NoReadme,
    NoSuchTable,
    NotACount,
)

__all__ = [
    "AppliedAlready",
    "Attempt",
    "BackupBlocked",
    "BackupDamaged",
    "BackupExists",
    "BackupFailed",
    "BackupTooNew",
    "Cancelled",
    "CannotUndo",
    "CannotWork",
    "CertificateRefused",
    "CheckFailed",
    "CheckPending",
    "ClientMissing",
    "ComposeFileError",
    "ComposeUnsupported",
    "ConnectionFailed",
    "ConnectionRefused",
    "ContainerExited",
    "ContainerPaused",
    "CopyFailed",
    "DatabaseClosed",
    "DatabaseMissing",
    "DocsStale",
    "DotenvNotUtf8",
    "DriftError",
    "EmbeddedFailed",
    "EmbeddedGone",
    "EmbeddedPassword",
    "EmbeddedPortTaken",
    "EngineElsewhere",
    "EngineFailed",
    "EngineUnavailable",
    "FilesError",
    "FolderClosed",
    "FolderNotOurs",
    "FolderOfVersion",
    "ForeignHistory",
    "GitFailed",
    "HalfInitialised",
    "HistoryIsHeld",
    "HistoryMoved",
    "HostUnknown",
    "HostUnreachable",
    "HowFar",
    "ImageMissing",
    "InUse",
    "InsideSquash",
    "Interrupted",
    "LintFindings",
    "ListingFailed",
    "LockError",
    "LogElsewhere",
    "LookBlocked",
    "MigrationFailed",
    "NameConflict",
    "NameUnusable",
    "NoEmbedded",
    "NoFile",
    "NoMarkers",
    "NoPassword",
    "NoReadme",
    "NoRight",
    "NoScratch",
    "NoShell",
    "NoSuchTable",
    "NotABackup",
    "NotACount",
    "NotAPair",
    "NotAdmitted",
    "NotApplied",
    "NotCommitted",
    "NotConfirmed",
    "NotDeleted",
    "NotPostgres",
    "NotReady",
    "NotRebuilt",
    "NotRecorded",
    "NotRunning",
    "NotSingle",
    "NotStopped",
    "NotTheSame",
    "NothingToSquash",
    "NumberTaken",
    "OtherCheckout",
    "OtherDatabase",
    "OtherPassword",
    "OtherRole",
    "PackageMissing",
    "PasswordRefused",
    "PoolerInBetween",
    "PortDiffers",
    "PortForbidden",
    "PortTaken",
    "ProgramMissing",
    "ReadOnlyServer",
    "Refused",
    "RehearsalFailed",
    "RehearsalStopped",
    "ResetBlocked",
    "ResetRefused",
    "RestoreBlocked",
    "RestoreFailed",
    "RestoreInterrupted",
    "RoleRefused",
    "RunIsHeld",
    "SayWhich",
    "SchemaDiffers",
    "SchemaUnread",
    "ServerError",
    "ServerFull",
    "ServerLost",
    "ServerTooOld",
    "SettingsError",
    "SqlGone",
    "SquashDiffers",
    "TableIsHeld",
    "TlsNotOffered",
    "TlsRequired",
    "TlsSettings",
    "ToolError",
    "TrialFailed",
    "UpToWhich",
    "UsageError",
    "WrongEmbedded",
    "WrongEncoding",
    "WrongServer",
]
