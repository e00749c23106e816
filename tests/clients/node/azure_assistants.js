// @azure/openai-assistants, written for the first version of the API.
import assert from "node:assert/strict";
import { AssistantsClient, AzureKeyCredential } from "@azure/openai-assistants";

const client = new AssistantsClient(process.env.THREADS_URL, new AzureKeyCredential("any"), {
  allowInsecureConnection: true,
  retryOptions: { maxRetries: 0 },
});

const { id, createdAt } = await client.createThread({
  messages: [{ role: "user", content: "one" }],
  metadata: { a: "1" },
});
assert(createdAt instanceof Date);
assert.deepEqual((await client.getThread(id)).metadata, { a: "1" });
assert.deepEqual((await client.updateThread(id, { metadata: { a: "2" } })).metadata, { a: "2" });

const message = await client.createMessage(id, "user", "two", { metadata: { b: "3" } });
assert.equal((await client.getMessage(id, message.id)).content[0].text.value, "two");
const changed = await client.updateMessage(id, message.id, { metadata: { b: "4" } });
assert.deepEqual(changed.metadata, { b: "4" });

const first = await client.listMessages(id, { order: "asc", limit: 1 });
assert(first.hasMore);
const second = await client.listMessages(id, { order: "asc", limit: 1, after: first.lastId });
const texts = [...first.data, ...second.data].map((each) => each.content[0].text.value);
assert.deepEqual(texts, ["one", "two"]);

assert((await client.deleteThread(id)).deleted);
await assert.rejects(client.getThread(id), { message: `No thread found with id '${id}'.` });
