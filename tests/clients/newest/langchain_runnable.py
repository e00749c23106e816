"""LangChain's OpenAIAssistantRunnable, with its own way to submit what tools return."""

import warnings

from langchain_classic.agents.openai_assistant import OpenAIAssistantRunnable
from langchain_core.agents import AgentFinish
from langchain_core.tools import tool

warnings.simplefilter("ignore")


@tool
def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"20 in {city}"


agent = OpenAIAssistantRunnable.create_assistant(
    name="weather", instructions="Be brief.", tools=[get_weather], model="gpt-4o", as_agent=True
)
answer = agent.invoke({"content": "hello"})
assert isinstance(answer, AgentFinish), answer
assert answer.return_values["output"] == "hello"

[action] = agent.invoke({"content": "the weather in Rome?", "thread_id": answer.thread_id})
assert (action.tool, action.tool_input) == ("get_weather", {"city": "Rome"})
output = {"output": get_weather.invoke(action.tool_input), "tool_call_id": action.tool_call_id}
submitted = {"tool_outputs": [output], "run_id": action.run_id, "thread_id": action.thread_id}
answer = agent.invoke(submitted)
assert answer.return_values["output"] == "It is 20 degrees."
