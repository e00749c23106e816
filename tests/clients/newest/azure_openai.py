"""openai's AzureOpenAI below /openai, and its OpenAI below /openai/v1."""

import os
import warnings

from openai import AzureOpenAI, NotFoundError, OpenAI

warnings.simplefilter("ignore", DeprecationWarning)
url = os.environ["THREADS_URL"]
strict = {"api_key": "any", "max_retries": 0, "_strict_response_validation": True}
older = AzureOpenAI(azure_endpoint=url, api_version="2024-05-01-preview", **strict)
newer = OpenAI(base_url=f"{url}/openai/v1/", default_query={"api-version": "preview"}, **strict)
hosted = OpenAI(**strict)

for client in (older, newer):
    threads = client.beta.threads
    thread = threads.create(messages=[{"role": "user", "content": "one"}], metadata={"a": "1"})
    assert threads.retrieve(thread.id) == thread
    assert hosted.beta.threads.retrieve(thread.id) == thread
    assert threads.update(thread.id, metadata={"a": "2"}).metadata == {"a": "2"}

    message = threads.messages.create(thread.id, role="assistant", content="two")
    assert threads.messages.retrieve(message.id, thread_id=thread.id) == message
    changed = threads.messages.update(message.id, thread_id=thread.id, metadata={"b": "3"})
    assert changed.metadata == {"b": "3"}
    pages = threads.messages.list(thread.id, order="asc", limit=1)
    assert [each.content[0].text.value for each in pages] == ["one", "two"]
    assert threads.messages.delete(message.id, thread_id=thread.id).deleted
    assert len(list(threads.messages.list(thread.id))) == 1

    assert threads.delete(thread.id).deleted
    refusal = ""
    try:
        threads.retrieve(thread.id)
    except NotFoundError as error:
        refusal = error.body["message"]
    assert refusal == f"No thread found with id '{thread.id}'."
