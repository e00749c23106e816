"""A program as people wrote it for the Assistants API: a function tool, and a streamed answer.

OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=any python weather_assistant.py
"""

import json
import sys

from openai import AssistantEventHandler, OpenAI

client = OpenAI()


def get_weather(city: str) -> str:
    return f"It is 20 degrees and sunny in {city}."


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class Printer(AssistantEventHandler):
    """Prints the answer as it comes, and answers the calls of functions."""

    def on_text_delta(self, delta, snapshot):
        print(delta.value, end="", flush=True)

    def on_event(self, event):
        if event.event == "thread.run.requires_action":
            self.submit(event.data)

    def submit(self, run):
        outputs = []
        for call in run.required_action.submit_tool_outputs.tool_calls:
            output = get_weather(**json.loads(call.function.arguments))
            outputs.append({"tool_call_id": call.id, "output": output})
        with client.beta.threads.runs.submit_tool_outputs_stream(
            thread_id=run.thread_id, run_id=run.id, tool_outputs=outputs, event_handler=Printer()
        ) as stream:
            stream.until_done()


def main(question: str) -> None:
    """Ask one question; print the answer."""
    assistant = client.beta.assistants.create(
        model="gpt-4o", instructions="You tell the weather.", tools=[TOOL]
    )
    thread = client.beta.threads.create(messages=[{"role": "user", "content": question}])
    with client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=assistant.id, event_handler=Printer()
    ) as stream:
        stream.until_done()
    print()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "What is the weather in Rome?")
