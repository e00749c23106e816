"""AutoGen's OpenAIAssistantAgent."""

import asyncio
import warnings

from autogen_agentchat.messages import TextMessage
from autogen_core import CancellationToken
from autogen_ext.agents.openai import OpenAIAssistantAgent
from openai import AsyncOpenAI

warnings.simplefilter("ignore")
cities = []


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    cities.append(city)
    return f"20 in {city}"


async def ask(agent: OpenAIAssistantAgent, text: str) -> str:
    message = TextMessage(content=text, source="user")
    return (await agent.on_messages([message], CancellationToken())).chat_message.content


async def main() -> None:
    agent = OpenAIAssistantAgent(
        name="weather",
        description="tells the weather",
        client=AsyncOpenAI(),
        model="gpt-4o",
        instructions="Be brief.",
        tools=[get_weather],
    )
    assert await ask(agent, "hello") == "hello"
    assert await ask(agent, "the weather in Rome?") == "It is 20 degrees."
    assert cities == ["Rome"]
    await agent.on_reset(CancellationToken())
    await agent.delete_assistant(CancellationToken())


asyncio.run(main())
