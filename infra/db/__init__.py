"""The Python behind the tasks: plain SQL files in, a migrated PostgreSQL out.

Imports point one way, and `tests/test_architecture.py` holds them to it:

    errors <- settings, migration, psql, servers <- history <- database, plan <- migrator, doctor <- console <- tasks.py
"""
