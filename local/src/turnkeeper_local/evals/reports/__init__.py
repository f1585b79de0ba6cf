"""Results for people and for CI: a table, JUnit, HTML."""
