"""Load and chaos as a command: all that users do, mixed, while workers die; what must hold is checked at the end.

`python -m tests.load --help`; docs/operations/load.md. The rooms: `target` is what is driven, `traffic` what its users
do and `record` what came of it, `memory` watches processes, `evidence` is what was seen at the end from outside,
`invariants` judges that, and `report` tells it.
"""
