"""The stores without AWS: table, queue, large contents and the table's changes, in PostgreSQL or SQLite.

One database holds all of them, so that one backup does. What differs between the two is in ``postgresql`` and
``sqlite``; everything else is written once, in SQL that both take (docs/decisions/0132).
"""
