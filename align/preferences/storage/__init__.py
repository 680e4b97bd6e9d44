"""The label database, SQLite or PostgreSQL.

``database`` opens it, ``migrations`` make its tables, ``store`` keeps votes, judgements and pairs, ``inserting`` says how rows
go in, and ``campaign_tables`` are the tables of everything else.
"""
