"""Alembic scripts. ``store.schema`` runs them; nobody needs an ``alembic.ini``."""
