"""LangGraph with its DynamoDB saver, with and without delta channels."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from common import MODEL, Peer, main, page


def build(peer: Peer) -> None:
    from langchain_anthropic import ChatAnthropic
    from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage, ToolMessage
    from langgraph.channels import DeltaChannel
    from langgraph.graph import END, START, StateGraph
    from langgraph.graph.message import _messages_delta_reducer, add_messages
    from langgraph_checkpoint_aws import DynamoDBSaver

    look = {
        "name": "look",
        "description": "Read a page.",
        "input_schema": {"type": "object", "properties": {"page": {"type": "integer"}}, "required": ["page"]},
    }
    model = ChatAnthropic(model_name=MODEL, base_url=peer.address, api_key="sk-bench", streaming=True).bind_tools(
        [look]
    )
    messages = (
        Annotated[list[AnyMessage], DeltaChannel(_messages_delta_reducer)]
        if peer.variant == "delta"
        else Annotated[list[AnyMessage], add_messages]
    )
    system = SystemMessage("Read." * 100)
    State = TypedDict("State", {"messages": messages})  # noqa: UP013

    def call(state: Any) -> Any:
        peer.mark()
        return {"messages": [model.invoke([system, *state["messages"]])]}

    def tools(state: Any) -> Any:
        return {
            "messages": [
                ToolMessage(content=page(use["args"]["page"], peer.kilobytes), tool_call_id=use["id"])
                for use in state["messages"][-1].tool_calls
            ]
        }

    graph = StateGraph(State)
    graph.add_node("model", call)
    graph.add_node("tools", tools)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda _: END if peer.over else "tools")
    graph.add_edge("tools", "model")
    saver = DynamoDBSaver(table_name="t", region_name="us-east-1", endpoint_url=peer.address)
    app = graph.compile(checkpointer=saver)
    app.invoke(
        {"messages": [HumanMessage("Read it all.")]},
        {"configurable": {"thread_id": "1"}, "recursion_limit": 100_000},
    )


main(build)
