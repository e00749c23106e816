"""Marvin 2's Assistant: it streams its runs and the outputs of its functions."""

import os
import warnings
from importlib.util import find_spec
from pathlib import Path

# Marvin downloads a tokenizer; litellm ships the same file
[litellm] = find_spec("litellm").submodule_search_locations
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm, "litellm_core_utils", "tokenizers"))
warnings.simplefilter("ignore")

from marvin.beta.assistants import Assistant, Thread  # noqa: E402

cities = []


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    cities.append(city)
    return f"20 in {city}"


def answer(thread: Thread, assistant: Assistant) -> str:
    run = thread.run(assistant)
    assert run.run.status == "completed", run.run
    return run.messages[-1].content[0].text.value


with Assistant(name="weather", model="gpt-4o", tools=[get_weather]) as assistant:
    thread = Thread()
    thread.add("hello")
    assert answer(thread, assistant) == "hello"
    thread.add("the weather in Rome?")
    assert answer(thread, assistant) == "It is 20 degrees."
    assert cities == ["Rome"]
