// openai's AzureOpenAI below /openai, and its OpenAI below /openai/v1.
import assert from "node:assert/strict";
import OpenAI, { AzureOpenAI, NotFoundError } from "openai";

const url = process.env.THREADS_URL;
const once = { apiKey: "any", maxRetries: 0 };
const older = new AzureOpenAI({
  endpoint: url,
  baseURL: null, // it refuses an endpoint beside OPENAI_BASE_URL
  apiVersion: "2024-05-01-preview",
  ...once,
});
const newer = new OpenAI({
  baseURL: `${url}/openai/v1/`,
  defaultQuery: { "api-version": "preview" },
  ...once,
});

for (const { beta: { threads } } of [older, newer]) {
  const thread = await threads.create({
    messages: [{ role: "user", content: "one" }],
    metadata: { a: "1" },
  });
  const { id } = thread;
  assert.deepEqual(await threads.retrieve(id), thread);
  assert.deepEqual((await threads.update(id, { metadata: { a: "2" } })).metadata, { a: "2" });

  const message = await threads.messages.create(id, { role: "assistant", content: "two" });
  const place = { thread_id: id };
  assert.deepEqual(await threads.messages.retrieve(message.id, place), message);
  const changed = await threads.messages.update(message.id, { ...place, metadata: { b: "3" } });
  assert.deepEqual(changed.metadata, { b: "3" });
  const texts = [];
  for await (const each of threads.messages.list(id, { order: "asc", limit: 1 }))
    texts.push(each.content[0].text.value);
  assert.deepEqual(texts, ["one", "two"]);
  assert((await threads.messages.delete(message.id, place)).deleted);

  assert((await threads.delete(id)).deleted);
  await assert.rejects(threads.retrieve(id), NotFoundError);
}
