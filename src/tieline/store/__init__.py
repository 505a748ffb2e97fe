"""What outlives the process: tables, migrations, queries; and what processes share (``shared``).

Imports ``types`` only. SQLAlchemy is imported when a database is opened, not before.
"""
