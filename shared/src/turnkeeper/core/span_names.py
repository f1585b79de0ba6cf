"""Names in traces, in one place: those of OpenTelemetry's semantic conventions for generative AI, which are in
development and may be renamed (https://opentelemetry.io/docs/specs/semconv/gen-ai/), and the kit's own for what they
have no name for. ``docs/operations/traces.md`` has the table.
"""

from __future__ import annotations

from typing import Final

# ---- spans ----

INVOKE_AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
QUEUE: Final = "turnkeeper.queue"
HANDOFF: Final = "turnkeeper.handoff"
MONEY_WAIT: Final = "turnkeeper.wait_for_money"
RUNNER: Final = "turnkeeper.runner"
RUNNER_LOST: Final = "turnkeeper.runner_lost"
REPAIR: Final = "turnkeeper.repair"
COMPACTION: Final = "turnkeeper.compaction"

# ---- events ----

EVALUATION: Final = "gen_ai.evaluation.result"
FLAG: Final = "turnkeeper.flag"

# ---- attributes of the conventions ----

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_VERSION: Final = "gen_ai.agent.version"
CONVERSATION: Final = "gen_ai.conversation.id"
REQUEST_MODEL: Final = "gen_ai.request.model"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
#: All that was read, cached or not, as the conventions have it; the two below are parts of it.
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL: Final = "gen_ai.tool.call.id"
TOOL_TYPE: Final = "gen_ai.tool.type"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_VALUE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
ERROR_TYPE: Final = "error.type"
STATUS_CODE: Final = "http.response.status_code"

#: Contents: only where they are allowed.
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
ARGUMENTS: Final = "gen_ai.tool.call.arguments"
RESULT: Final = "gen_ai.tool.call.result"
EXPLANATION: Final = "gen_ai.evaluation.explanation"
CONTENTS: Final = frozenset({INPUT_MESSAGES, OUTPUT_MESSAGES, ARGUMENTS, RESULT, EXPLANATION})

# ---- the kit's own attributes ----

TENANT: Final = "turnkeeper.tenant.id"
TURN: Final = "turnkeeper.turn"
STATUS: Final = "turnkeeper.status"
STOP_REASON: Final = "turnkeeper.stop.reason"
STOP_SCOPE: Final = "turnkeeper.stop.scope"
RESUMED: Final = "turnkeeper.resumed"
PLACEMENT: Final = "turnkeeper.placement"
STEPS: Final = "turnkeeper.steps"
REQUEST: Final = "turnkeeper.request.id"
#: Of attempts that brought no answer and still report what they used: no part of the sums above.
LOST_INPUT: Final = "turnkeeper.lost.input_tokens"
LOST_OUTPUT: Final = "turnkeeper.lost.output_tokens"
COST: Final = "turnkeeper.cost_nanousd"
IN_DOUBT: Final = "turnkeeper.in_doubt_nanousd"
RESERVED: Final = "turnkeeper.reserved_nanousd"
LEDGER_CALL: Final = "turnkeeper.ledger.call"
LEDGER_STATE: Final = "turnkeeper.ledger.state"
PROVIDER_REQUEST: Final = "turnkeeper.provider.request_id"
CAP_SCOPE: Final = "turnkeeper.cap.scope"
CAP_LIMIT: Final = "turnkeeper.cap.limit_nanousd"
CAP_HEADROOM: Final = "turnkeeper.cap.headroom_nanousd"
RUNNER_ID: Final = "turnkeeper.runner.id"
RUNNER_KIND: Final = "turnkeeper.runner.kind"
TAKEN_OVER_BY: Final = "turnkeeper.runner.taken_over_by"
OPEN_CALLS: Final = "turnkeeper.runner.open_calls"
TOOL_OUTCOME: Final = "turnkeeper.tool.outcome"
SEQ: Final = "turnkeeper.seq"
LEFT_OUT: Final = "turnkeeper.left_out"
WHY: Final = "turnkeeper.why"
FLAG_SCORE: Final = "turnkeeper.flag.score"
COMPANION_KIND: Final = "turnkeeper.companion.kind"
COMPANION_OF: Final = "turnkeeper.companion.of"
