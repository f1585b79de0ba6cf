"""``sql_query``: one reading statement over listed tables and columns.

Four walls, each of which holds alone against what gets past the one before:

``guard``       the statement is parsed; every node, function and table of it must be on an allow-list
``rewrite``     every listed table becomes a subquery of its allowed columns, every CTE gets a name of ours; what
                runs is written anew from the parse, never the model's text, and is parsed and checked once more
``sqlite``      opened read-only, with an authorizer that knows tables, columns and functions
``postgres``    a read-only transaction with a statement timeout and an empty search path, always rolled back

``vocabulary`` holds the allow-lists, ``rows`` what a result may cost, ``query`` the tool.
"""
