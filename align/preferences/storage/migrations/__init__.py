"""Alembic migrations of the label store; they run by themselves when a store is opened."""
