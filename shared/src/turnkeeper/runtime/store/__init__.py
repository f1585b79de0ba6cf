"""Sessions and money in one table, over the :class:`~turnkeeper.table.Table` port: the same logic for DynamoDB and for
the in-memory fake.

==============  ====================================================================================================
``keys``        where things are in the table
``codec``       how heads, entries and plans become items; large contents go to the blob store
``counters``    what a transaction does to the shared counters
``records``     reading: a resume, lists, what is due
``sessions``    create, claim, commit: every write of a session
``treasury``    admission: caps, shards, waiting, clamping
``tenants``     a tenant's record and its audit chain
``erasure``     a session's contents taken away
==============  ====================================================================================================
"""
