"""The commands, one module a group. Their docstrings are their help."""
