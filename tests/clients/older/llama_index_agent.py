"""LlamaIndex's OpenAIAssistantAgent."""

import warnings

from llama_index.agent.openai import OpenAIAssistantAgent
from llama_index.core.tools import FunctionTool

warnings.simplefilter("ignore")
cities = []


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    cities.append(city)
    return f"20 in {city}"


agent = OpenAIAssistantAgent.from_new(
    name="weather",
    instructions="Be brief.",
    tools=[FunctionTool.from_defaults(get_weather)],
    model="gpt-4o",
    run_retrieve_sleep_time=0.02,
)
assert agent.chat("hello").response == "hello"
assert agent.chat("the weather in Rome?").response == "It is 20 degrees."
assert cities == ["Rome"]
assert len(agent.chat_history) == 4
agent.reset()
assert agent.chat_history == []
