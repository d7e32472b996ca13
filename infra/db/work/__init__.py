"""What the tasks do: one module per family of tasks, each a few functions that are given the Session first.

A task imports the one module that it needs, so that it waits for no other's imports.

    forward     migrate, and migrate --plan
    amend       migrate-rollback, migrate-resolve, migrate-baseline: what a person decides about the history
    files       migrate-new, migrate-squash, migrate-lint
    trial       migrate-rehearse, migrate-verify
    throwaway   the databases that a trial, a squash and a baseline need for a moment
    keep        db.backup, db.restore, migrate-reset
    view        db.shell, db.logs, db.tables, db.describe, db.url, db.docs
    diagnose    db.doctor
"""
