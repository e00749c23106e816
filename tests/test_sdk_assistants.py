"""The official SDK's assistants against a live server; every answer is checked by its models."""

import asyncio
from typing import Any

import pytest
from conftest import Server
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.beta import FunctionTool

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}
ANSWER = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
}
EVERYTHING: dict[str, Any] = {
    "model": "gpt-4o",
    "name": "Weather",
    "description": "Knows the weather.",
    "instructions": "Be brief.",
    "tools": [WEATHER, {"type": "file_search"}, {"type": "code_interpreter"}],
    "tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["file-1"]}]}},
    "metadata": {"a": "1"},
    "temperature": 0.5,
    "top_p": 0.9,
    "reasoning_effort": "low",
    "response_format": ANSWER,
}
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


def test_create_takes_every_parameter(sdk: OpenAI) -> None:
    assistant = sdk.beta.assistants.create(**EVERYTHING)
    assert (assistant.name, assistant.temperature, assistant.top_p) == ("Weather", 0.5, 0.9)
    assert [tool.type for tool in assistant.tools] == [
        "function",
        "file_search",
        "code_interpreter",
    ]
    assert isinstance(assistant.tools[0], FunctionTool)
    assert assistant.tools[0].to_dict() == WEATHER
    assert assistant.tool_resources.code_interpreter.file_ids == []
    assert assistant.tool_resources.file_search.vector_store_ids[0].startswith("vs_")
    assert assistant.response_format.to_dict() == ANSWER
    assert sdk.beta.assistants.retrieve(assistant.id) == assistant


def test_create_takes_null_for_all_but_model_and_tools(sdk: OpenAI) -> None:
    nulls = dict.fromkeys(EVERYTHING.keys() - {"model", "tools"})
    assistant = sdk.beta.assistants.create(model="gpt-4o", **nulls)
    assert (assistant.metadata, assistant.response_format) == ({}, "auto")


def test_update_takes_back_what_was_answered(sdk: OpenAI) -> None:
    assistant = sdk.beta.assistants.create(**EVERYTHING)
    tools = [tool.to_dict() for tool in assistant.tools]
    resources = assistant.tool_resources.to_dict()
    changed = sdk.beta.assistants.update(
        assistant.id, model="gpt-4.1", tools=tools, tool_resources=resources
    )
    assert changed == assistant.model_copy(update={"model": "gpt-4.1"})


def test_delete_is_told_and_final(sdk: OpenAI) -> None:
    assistant = sdk.beta.assistants.create(model="gpt-4o")
    assert sdk.beta.assistants.delete(assistant.id).deleted
    with pytest.raises(NotFoundError) as caught:
        sdk.beta.assistants.retrieve(assistant.id)
    assert str(caught.value) == f"Error code: 404 - No assistant found with id '{assistant.id}'."
    assert (caught.value.param, caught.value.code) == (None, None)


def test_the_sdk_pages_through_all_assistants(sdk: OpenAI) -> None:
    made = [sdk.beta.assistants.create(model=f"m{number}").id for number in range(7)]
    pages = sdk.beta.assistants.list(order="asc", limit=3)
    assert [each.id for each in pages if each.id in made] == made
    newest = sdk.beta.assistants.list(limit=3)
    assert [each.id for each in newest.data] == made[:-4:-1]
    assert newest.has_next_page()


def test_a_refusal_is_a_bad_request_error(sdk: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        sdk.beta.assistants.create(model="gpt-4o", tools=[{"type": "retrieval"}])  # type: ignore[typeddict-item]
    assert (caught.value.param, caught.value.code) == ("tools[0].type", "invalid_value")


def test_the_async_client_has_all_five(server: Server) -> None:
    async def round_trip() -> None:
        async with server.async_sdk() as sdk:
            assistants = sdk.beta.assistants
            assistant = await assistants.create(model="gpt-4o")
            assert await assistants.retrieve(assistant.id) == assistant
            assert (await assistants.update(assistant.id, name="n")).name == "n"
            assert assistant.id in [each.id async for each in assistants.list()]
            assert (await assistants.delete(assistant.id)).deleted

    asyncio.run(round_trip())
