"""The audit of a table with one row a rollout: rates, gaps, findings, a verdict."""
