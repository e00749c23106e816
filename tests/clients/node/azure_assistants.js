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

const get = { type: "function", function: { name: "get_weather", parameters: {} } };
const assistant = await client.createAssistant({ model: "gpt-4o", tools: [get] });
async function ended(run) {
  while (["queued", "in_progress"].includes(run.status)) run = await client.getRun(id, run.id);
  return run;
}
const run = await ended(await client.createRun(id, { assistantId: assistant.id }));
assert.equal(run.status, "completed");
assert(run.completedAt instanceof Date);
const steps = await client.listRunSteps(id, run.id);
const [step] = steps.data;
assert.equal(step.type, "message_creation");
const { message_id: messageId } = step.stepDetails.messageCreation; // it leaves this name
assert.equal((await client.getMessage(id, messageId)).content[0].text.value, "two");
assert.deepEqual((await client.listRuns(id)).data.map((each) => each.id), [run.id]);

assert((await client.deleteThread(id)).deleted);
await assert.rejects(client.getThread(id), { message: `No thread found with id '${id}'.` });
