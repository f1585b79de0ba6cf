"""Offline evaluation: cases beside each agent, run by the real engine in memory, scored by the evaluators that score
every turn in production.

Cases are datasets of pydantic-evals, whose import takes a second: nothing of this is imported before it is asked for.
"""
