"""What a person sees and hears of a deployment: the board, the alarms, and where each says what to do.

emitted.py   the kit's own metrics, and the ways in which one is drawn and watched
board.py     the dashboard, as data, in the order in which somebody looks who was woken
money.py     alarms on spending, and the one that says that money is being burnt
quality.py   alarms on turns: providers, tools, waiting, the worker

CloudWatch takes an alarm, or a graph, of a metric that nobody publishes, and it then waits for ever:
`tests/infra/alarm_rules.py` holds each against what AWS documents and the kit emits, in both directions.
"""
