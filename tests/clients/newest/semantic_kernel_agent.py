"""Semantic Kernel's OpenAIAssistantAgent: it lists the steps of a run, or streams it."""

import asyncio
import warnings

from openai import AsyncOpenAI
from semantic_kernel.agents import OpenAIAssistantAgent
from semantic_kernel.functions import kernel_function

warnings.simplefilter("ignore")
cities = []


class Weather:
    @kernel_function(name="get_weather", description="Tell the weather of a city.")
    def get_weather(self, city: str) -> str:
        cities.append(city)
        return f"20 in {city}"


async def main() -> None:
    client = AsyncOpenAI()
    definition = await client.beta.assistants.create(model="gpt-4o", name="weather")
    agent = OpenAIAssistantAgent(client=client, definition=definition, plugins=[Weather()])
    answer = await agent.get_response(messages="hello")
    assert str(answer) == "hello"
    answer = await agent.get_response(messages="the weather in Rome?", thread=answer.thread)
    assert str(answer) == "It is 20 degrees."
    assert cities == ["Rome"]
    pieces = [
        str(each)
        async for each in agent.invoke(messages="the weather in Rome?", thread=answer.thread)
    ]
    assert pieces[-1] == "It is 20 degrees."
    streamed = agent.invoke_stream(messages="the weather in Rome?", thread=answer.thread)
    assert "".join([str(each) async for each in streamed]) == "It is 20 degrees."
    assert cities == ["Rome"] * 3
    await answer.thread.delete()
    await client.beta.assistants.delete(agent.id)


asyncio.run(main())
