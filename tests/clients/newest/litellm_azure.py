"""litellm's threads, runs and assistants of the provider `azure`."""

import os
import warnings

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it downloads a list of prices otherwise
warnings.simplefilter("ignore")

import litellm  # noqa: E402

azure = {
    "custom_llm_provider": "azure",
    "api_base": os.environ["THREADS_URL"],
    "api_key": "any",
    "api_version": "2024-05-01-preview",
}
thread = litellm.create_thread(
    messages=[{"role": "user", "content": "one"}], metadata={"a": "1"}, **azure
)
assert thread.metadata == {"a": "1"}
assert litellm.get_thread(thread_id=thread.id, **azure).id == thread.id
message = litellm.add_message(thread_id=thread.id, role="user", content="two", **azure)
assert message.thread_id == thread.id
[newest, oldest] = litellm.get_messages(thread_id=thread.id, **azure).data
assert [oldest.content[0].text.value, newest.content[0].text.value] == ["one", "two"]

assistant = litellm.create_assistants(model="gpt-4o", name="weather", **azure)
run = litellm.run_thread(thread_id=thread.id, assistant_id=assistant.id, stream=False, **azure)
assert run.status == "completed", run
answer = litellm.get_messages(thread_id=thread.id, **azure).data[0]
assert (answer.run_id, answer.content[0].text.value) == (run.id, "two")
streamed = litellm.run_thread(thread_id=thread.id, assistant_id=assistant.id, stream=True, **azure)
with streamed as stream:
    assert "".join(stream.text_deltas) == "two"
assert litellm.delete_assistant(assistant_id=assistant.id, **azure).deleted
