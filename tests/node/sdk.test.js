// The official Node SDK against the server at THREADS_BASE_URL; started by tests/test_node.py.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import OpenAI from "openai";
import { CursorPage } from "openai/pagination";

const client = new OpenAI({ baseURL: process.env.THREADS_BASE_URL, apiKey: "any", maxRetries: 0 });
const { threads } = client.beta;
const messages = (count) =>
  Array.from({ length: count }, (_, index) => ({ role: "user", content: `${index}` }));

async function collect(pages) {
  const found = [];
  for await (const item of pages) found.push(item);
  return found;
}

const textOf = (message) => message.content[0].text.value;
const idOf = (object) => object.id;

test("a thread is created, retrieved, updated and deleted", async () => {
  const thread = await threads.create({ metadata: { user: "u1" } });
  assert.match(thread.id, /^thread_[A-Za-z0-9]{24}$/);
  assert.match(thread._request_id, /^req_[0-9a-f]{32}$/);
  assert.deepEqual(await threads.retrieve(thread.id), thread);
  const updated = await threads.update(thread.id, { metadata: { user: "u2" } });
  assert.deepEqual(updated, { ...thread, metadata: { user: "u2" } });
  assert.deepEqual(await threads.delete(thread.id), {
    id: thread.id,
    object: "thread.deleted",
    deleted: true,
  });
  await assert.rejects(threads.retrieve(thread.id), OpenAI.NotFoundError);
});

test("a thread is created from nothing and from null", async () => {
  for (const thread of [await threads.create(), await threads.create(null)])
    assert.deepEqual([thread.metadata, thread.tool_resources], [{}, {}]);
});

test("a message is created, retrieved, updated and deleted", async () => {
  const { id } = await threads.create();
  const message = await threads.messages.create(id, { role: "user", content: "Hé 😀" });
  assert.deepEqual(message.content, [{ type: "text", text: { value: "Hé 😀", annotations: [] } }]);
  const where = { thread_id: id };
  assert.deepEqual(await threads.messages.retrieve(message.id, where), message);
  const changed = { ...where, metadata: { k: "v" } };
  assert.deepEqual(await threads.messages.update(message.id, changed), {
    ...message,
    metadata: { k: "v" },
  });
  const deleted = await threads.messages.delete(message.id, where);
  assert.deepEqual(deleted, { id: message.id, object: "thread.message.deleted", deleted: true });
  await assert.rejects(threads.messages.retrieve(message.id, where), OpenAI.NotFoundError);
});

// The suite leaves out what takes more requests; TEST_MATRIX=whole leaves out nothing.
const requests = process.env.TEST_MATRIX === "whole" ? 1000 : 21;

describe("auto-pagination returns exactly what was written while two others write", () => {
  for (const count of [0, 1, 20, 21, 100, 1000])
    describe(`for ${count} messages`, () => {
      let id, others;
      let writing = true;
      const insertAndDelete = async () => {
        while (writing) {
          const message = await threads.messages.create(id, { role: "assistant", content: "other" });
          await threads.messages.delete(message.id, { thread_id: id });
        }
      };
      before(async () => {
        ({ id } = await threads.create({ messages: messages(count) }));
        others = [1, 2].map(insertAndDelete);
      });
      after(async () => {
        writing = false;
        await Promise.all(others);
      });
      for (const limit of [1, 7, 20, 100].filter((limit) => count <= limit * requests))
        for (const order of ["asc", "desc"])
          test(`limit ${limit}, ${order}`, async () => {
            const all = await collect(threads.messages.list(id, { limit, order }));
            const found = all.filter((message) => message.role === "user").map(textOf);
            const written = messages(count).map((message) => message.content);
            assert.deepEqual(found, order === "asc" ? written : written.reverse());
          });
    });
});

test("a loop that deletes while it pages deletes all", async () => {
  for (const order of ["asc", "desc"]) {
    const { id } = await threads.create({ messages: messages(23) });
    for await (const message of threads.messages.list(id, { limit: 5, order }))
      await threads.messages.delete(message.id, { thread_id: id });
    assert.deepEqual(await collect(threads.messages.list(id)), []);
  }
});

test("getAPIList lists, filters and searches threads", async () => {
  const metadata = { run: `${process.pid}`, "né'": 'a "b"&c' };
  const made = [];
  for (const { content } of messages(5)) {
    const body = { metadata, messages: [{ role: "user", content: `needle ${content}` }] };
    made.push((await threads.create(body)).id);
  }
  const list = (query) => collect(client.getAPIList("/threads", CursorPage, { query }));
  assert.deepEqual((await list({ limit: 2, metadata })).map(idOf), made.toReversed());
  assert.deepEqual((await list({ limit: 2, metadata, order: "asc" })).map(idOf), made);
  assert.deepEqual((await list({ metadata, q: "needle 3" })).map(idOf), [made[3]]);
  assert.deepEqual(await list({ metadata, created_before: 1 }), []);
  const [thread] = await list({ metadata, limit: 1 });
  assert.deepEqual(thread, { ...(await threads.retrieve(thread.id)) });
});

test("an error carries code, param, type and request id", async () => {
  const { id } = await threads.create();
  const refused = threads.messages.create(id, { role: "system", content: "x" });
  await assert.rejects(refused, (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    const { status, code, param, type, requestID, message } = error;
    assert.deepEqual(
      { status, code, param, type, message },
      {
        status: 400,
        code: "invalid_value",
        param: "role",
        type: "invalid_request_error",
        message: "400 Invalid value: 'system'. Supported values are: 'user' and 'assistant'.",
      },
    );
    assert.match(requestID, /^req_[0-9a-f]{32}$/);
    return true;
  });
});
