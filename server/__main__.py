"""The kit without AWS: ``python -m server front-door | worker | chores | all``."""
