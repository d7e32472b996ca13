"""What only the stories on real servers need."""

from tests.integration.schema_fixtures import owned, schema, templates

__all__ = ["owned", "schema", "templates"]
