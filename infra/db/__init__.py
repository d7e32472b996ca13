"""The Python behind the tasks: plain SQL files in, a migrated PostgreSQL out.

Imports point one way, and `tests/test_architecture.py` holds them to it:

    errors <- settings <- servers <- migration, history <- psql, plan, lint <- database
           <- backup, catalogue, scratch, watch, ... <- outcome <- migrator, restore, doctor <- rehearse, verify
           <- console <- session <- work <- tasks.py

Values do not change once they are made. Those that every task loads are NamedTuples, because defining a dataclass takes
five times as long, which added up to a twentieth of a run that finds nothing to do; what hides a secret is a dataclass.
"""
