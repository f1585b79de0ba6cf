#!/bin/sh
# What the Lambda Web Adapter starts in the function that streams: the handler of a function with its layer is a program.
cd "$LAMBDA_TASK_ROOT" || exit 1
PYTHONPATH="$LAMBDA_TASK_ROOT:/opt/python:$LAMBDA_RUNTIME_DIR" exec python3 -m functions.api.serve
