"""The allow-lists: which parts of SQL, which functions, which types.

Lists of what is harmless, never of what is not: a database that learns a new function does not open a hole here.
Left out on purpose, though they only read: functions that make much out of little (``repeat``, ``lpad``, ``printf``,
``zeroblob``, ``generate_series``), that take SQL or names as text (``query_to_xml``, ``to_regclass``), that read
settings, files or other sessions, and those that turn a whole row into one value.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Names of sqlglot's node classes. Everything else in a statement is refused.
NODES = _words(
    """
    Select Union Intersect Except With CTE Subquery From Join Where Group Having Order Ordered Limit Offset Fetch
    Distinct Table TableAlias Alias Column Identifier Star Literal Null Boolean Var Paren Tuple Values
    And Or Not EQ NEQ GT GTE LT LTE NullSafeEQ NullSafeNEQ Is In Between Like ILike Glob Escape SimilarTo Exists
    RegexpLike RegexpILike Case If Cast DataType DataTypeParam Collate Interval AtTimeZone
    Neg Add Sub Mul Div Mod IntDiv DPipe BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitwiseLeftShift BitwiseRightShift
    Window WindowSpec Filter WithinGroup Rollup Cube GroupingSets HexString
    JSONExtract JSONExtractScalar JSONBExtract JSONBExtractScalar
    JSONPath JSONPathRoot JSONPathKey JSONPathSubscript
    CurrentDate CurrentTime CurrentTimestamp Localtime Localtimestamp TsOrDsToTimestamp Extract
    StrPosition TimeToStr StrToDate StrToTime UnixToTime TimestampTrunc TimestampFromParts
    JSONBContainsTopKey JSONBContainsAnyTopKeys JSONBContainsAllTopKeys
    Array Any All ArrayContainsAll ArrayContainedBy LimitOptions
    """
)

#: Functions by their name in the database, in lower case.
FUNCTIONS = _words(
    """
    count sum avg min max total group_concat string_agg array_agg bool_and bool_or every
    stddev stddev_pop stddev_samp variance var_pop var_samp variance_pop corr covar_pop covar_samp
    median mode percentile_cont percentile_disc
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value grouping
    coalesce ifnull nullif iif greatest least
    abs ceil ceiling floor round trunc sign mod power pow sqrt cbrt exp ln log log10 log2 pi
    sin cos tan asin acos atan degrees radians width_bucket div gcd lcm random
    lower upper initcap length char_length character_length octet_length substr substring left right position
    strpos instr replace translate trim ltrim rtrim btrim concat concat_ws reverse split_part starts_with
    ascii chr char unicode hex to_hex md5 typeof regexp_replace regexp_like
    date time datetime julianday unixepoch strftime timediff now age date_trunc date_part extract date_bin
    make_date make_timestamp make_interval to_char to_date to_timestamp to_number isfinite
    json_extract json_type json_array_length json_valid jsonb_typeof json_typeof jsonb_array_length
    json_extract_path json_extract_path_text jsonb_extract_path jsonb_extract_path_text
    """
)

#: Words between a comparison and an array or a subquery.
QUANTIFIERS = frozenset({"all", "some"})

#: What SQLite's authorizer calls a function though it is written as an operator, or as another name.
SQLITE_OPERATORS = frozenset({"like", "glob", "->", "->>", "current_date", "current_time", "current_timestamp"})

#: Words of the language that may stand before an opening parenthesis in what is written from the parse.
KEYWORDS = _words(
    """
    in and or not as from join on using where having by select values over exists case when then else distinct union
    all except intersect filter group within limit offset materialized between like ilike glob escape is rollup cube
    sets any some cast partition order with set similar to first next interval
    + - * / % || = <> != < <= > >= & | ^ # ~ << >> -> ->> #> #>> ? ?| ?& @> <@ , ( ~*
    varchar char decimal numeric bpchar character varying time timestamp timestamptz timetz precision float
    """
)

#: Names of sqlglot's types that a value may be cast to. Not among them: regclass and its kin, xml, and user-defined
#: ones.
TYPES = _words(
    """
    BOOLEAN TINYINT SMALLINT INT BIGINT FLOAT DOUBLE DECIMAL BIGDECIMAL
    CHAR NCHAR VARCHAR NVARCHAR TEXT BPCHAR BLOB VARBINARY
    DATE TIME TIMETZ TIMESTAMP TIMESTAMPTZ TIMESTAMPNTZ DATETIME INTERVAL UUID JSON JSONB ARRAY
    """
)

COLLATIONS = frozenset({"nocase", "binary", "rtrim", "c", "posix"})

#: What a refusal says instead of the name of a node.
WORDS = {
    "Lock": "FOR UPDATE / FOR SHARE",
    "Into": "SELECT INTO",
    "Command": "this kind of statement",
    "Placeholder": "a placeholder (write the value itself)",
    "Parameter": "a placeholder (write the value itself)",
    "SessionParameter": "a session variable",
    "Dot": "a qualified or composite name (a.b) here",
    "RawString": "dollar quoting (use single quotes)",
    "ByteString": "an E'' string (use plain single quotes)",
    "UnicodeString": "a U&'' string (use plain single quotes)",
    "National": "an N'' string (use plain single quotes)",
    "ObjectIdentifier": "a cast to an object name",
    "Lateral": "LATERAL",
    "Unnest": "UNNEST",
    "Semicolon": "more than one statement",
}
