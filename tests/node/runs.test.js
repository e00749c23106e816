// The official Node SDK's runs against the server at THREADS_RUNS_URL; started by
// tests/test_node.py. The mock controls script what runs answer.

import assert from "node:assert/strict";
import { afterEach, before, beforeEach, describe, test } from "node:test";
import OpenAI from "openai";

const baseURL = process.env.THREADS_RUNS_URL;
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const { assistants, threads } = client.beta;
const { runs } = threads;
const tools = [{ type: "function", function: { name: "get_weather" } }];
const rome = { name: "get_weather", arguments: { city: "Rome" } };
const oslo = { name: "get_weather", arguments: { city: "Oslo" } };
const answer = { text: "It is 20 degrees." };
const never = { text: "too late", delay_ms: 60_000 };
const hello = [{ role: "user", content: "hello" }];
let assistant, thread;

async function control(method, body) {
  const headers = { "Content-Type": "application/json" };
  const request = { method, headers, body: JSON.stringify(body) };
  assert.equal((await fetch(new URL("/_mock/replies", baseURL), request)).status, 200);
}

const say = (...replies) => control("PUT", { rules: [{ replies }] });

async function collect(pages) {
  const found = [];
  for await (const item of pages) found.push(item);
  return found;
}

const texts = async (id) =>
  (await collect(threads.messages.list(id, { order: "asc" }))).map((each) => each.content[0].text.value);

const outputsFor = (run) =>
  run.required_action.submit_tool_outputs.tool_calls.map((call) => ({
    tool_call_id: call.id,
    output: call.function.arguments,
  }));

before(async () => {
  assistant = (await assistants.create({ model: "gpt-4o", instructions: "Be brief.", tools })).id;
});
beforeEach(async () => {
  thread = (await threads.create({ messages: hello })).id;
});
afterEach(() => control("DELETE"));

describe("polled", () => {
  test("createAndPoll returns the run with its answer", async () => {
    const run = await runs.createAndPoll(thread, { assistant_id: assistant });
    assert.equal(run.status, "completed");
    assert.deepEqual(await runs.retrieve(run.id, { thread_id: thread }), run);
    assert.deepEqual(await texts(thread), ["hello", "hello"]);
  });

  test("createAndRunPoll makes the thread", async () => {
    const run = await threads.createAndRunPoll({
      assistant_id: assistant,
      thread: { messages: hello },
    });
    assert.equal(run.status, "completed");
    assert.deepEqual(await texts(run.thread_id), ["hello", "hello"]);
  });

  test("two parallel calls get their outputs", async () => {
    await say({ tool_calls: [rome, oslo] }, answer);
    const waiting = await runs.createAndPoll(thread, { assistant_id: assistant });
    assert.equal(waiting.status, "requires_action");
    const tool_outputs = outputsFor(waiting);
    const run = await runs.submitToolOutputsAndPoll(waiting.id, { thread_id: thread, tool_outputs });
    assert.equal(run.status, "completed");
    assert.deepEqual(await texts(thread), ["hello", "It is 20 degrees."]);
    const place = { thread_id: thread, limit: 1, order: "asc" };
    const steps = await collect(runs.steps.list(run.id, place));
    assert.deepEqual(
      steps.map((step) => step.type),
      ["tool_calls", "message_creation"],
    );
    assert.deepEqual(
      steps[0].step_details.tool_calls.map((call) => call.function.output),
      ['{"city":"Rome"}', '{"city":"Oslo"}'],
    );
  });

  test("a run is cancelled while it is in progress", async () => {
    await say(never);
    const { id } = await runs.create(thread, { assistant_id: assistant });
    const place = { thread_id: thread };
    while ((await runs.retrieve(id, place)).status === "queued");
    assert.equal((await runs.cancel(id, place)).status, "cancelling");
    assert.equal((await runs.poll(id, place)).status, "cancelled");
  });

  test("auto-pagination returns all runs", async () => {
    const made = [];
    for (let count = 0; count < 5; count++)
      made.push((await runs.createAndPoll(thread, { assistant_id: assistant })).id);
    const listed = await collect(runs.list(thread, { limit: 2, order: "asc" }));
    assert.deepEqual(
      listed.map((run) => run.id),
      made,
    );
  });
});

describe("streamed", () => {
  test("a text is told in pieces", async () => {
    await say({ ...answer, chunk_characters: 6 });
    const stream = runs.stream(thread, { assistant_id: assistant });
    const pieces = [];
    const done = [];
    stream
      .on("textDelta", ({ value }) => pieces.push(value))
      .on("textDone", ({ value }) => done.push(value))
      .on("messageDone", ({ status }) => done.push(status))
      .on("runStepDone", ({ type }) => done.push(type));
    const run = await stream.finalRun();
    assert.deepEqual(pieces, ["It is ", "20 deg", "rees."]);
    assert.deepEqual(done, ["It is 20 degrees.", "completed", "message_creation"]);
    assert.deepEqual(run, { ...(await runs.retrieve(run.id, { thread_id: thread })) });
    const [message] = await stream.finalMessages();
    assert.equal(message.content[0].text.value, "It is 20 degrees.");
  });

  test("calls are told, and the answer to their outputs", async () => {
    await say({ tool_calls: [rome, oslo], chunk_characters: 4 }, answer);
    const stream = runs.stream(thread, { assistant_id: assistant });
    const calls = [];
    stream.on("toolCallDone", (call) => calls.push(call.function.arguments));
    const waiting = await stream.finalRun();
    assert.equal(waiting.status, "requires_action");
    assert.deepEqual(calls, ['{"city":"Rome"}', '{"city":"Oslo"}']);
    const next = runs.submitToolOutputsStream(waiting.id, {
      thread_id: thread,
      tool_outputs: outputsFor(waiting),
    });
    const names = [];
    for await (const { event } of next) names.push(event);
    assert.equal(names[0], "thread.run.step.completed");
    assert.equal(names.at(-1), "thread.run.completed");
    assert.deepEqual(await texts(thread), ["hello", "It is 20 degrees."]);
  });

  test("createAndRunStream tells the thread first", async () => {
    const stream = threads.createAndRunStream({
      assistant_id: assistant,
      thread: { messages: hello },
    });
    const names = [];
    stream.on("event", ({ event }) => names.push(event));
    const { status } = await stream.finalRun();
    assert.deepEqual([status, names[0]], ["completed", "thread.created"]);
  });

  test("a run that fails ends its stream", async () => {
    await say({ error: { code: "rate_limit_exceeded", message: "Slow down." } });
    const run = await runs.stream(thread, { assistant_id: assistant }).finalRun();
    assert.equal(run.status, "failed");
    assert.deepEqual(run.last_error, { code: "rate_limit_exceeded", message: "Slow down." });
  });

  test("a stream that is cancelled from elsewhere ends with its run", async () => {
    await say({ text: `${"a".repeat(20)}the other half`, chunk_ms: 60_000 });
    const stream = runs.stream(thread, { assistant_id: assistant });
    stream.on("textDelta", () => runs.cancel(stream.currentRun().id, { thread_id: thread }));
    assert.equal((await stream.finalRun()).status, "cancelled");
    assert.deepEqual(await texts(thread), ["hello", "a".repeat(20)]);
  });
});

describe("refused", () => {
  test("what is missing", async () => {
    const place = { thread_id: thread };
    const { id } = await runs.createAndPoll(thread, { assistant_id: assistant });
    for (const [refused, message] of [
      [
        () => runs.create(thread, { assistant_id: "asst_0" }),
        "No assistant found with id 'asst_0'.",
      ],
      [
        () => runs.create("thread_0", { assistant_id: assistant }),
        "No thread found with id 'thread_0'.",
      ],
      [() => runs.retrieve("run_0", place), "No run found with id 'run_0'."],
      [
        () => runs.steps.retrieve("step_0", { ...place, run_id: id }),
        "No run step found with id 'step_0'.",
      ],
    ])
      await assert.rejects(refused, (error) => {
        assert.ok(error instanceof OpenAI.NotFoundError);
        assert.equal(error.message, `404 ${message}`);
        return true;
      });
  });

  test("what a locked thread or another state forbids", async () => {
    await say({ tool_calls: [rome, oslo] });
    const place = { thread_id: thread };
    const run = await runs.createAndPoll(thread, { assistant_id: assistant });
    const { id } = run;
    const [{ tool_call_id: first }, { tool_call_id: second }] = outputsFor(run);
    const ids = `call_ids ['${first}', '${second}'], got []`;
    const refused = async (call, message) =>
      assert.rejects(call, (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.equal(error.message, `400 ${message}`);
        return true;
      });
    const submit = () => runs.submitToolOutputs(id, { ...place, tool_outputs: [] });
    const busy = `Thread ${thread} already has an active run ${id}.`;
    await refused(
      threads.messages.create(thread, hello[0]),
      `Can't add messages to ${thread} while a run ${id} is active.`,
    );
    await refused(runs.create(thread, { assistant_id: assistant }), busy);
    await refused(runs.stream(thread, { assistant_id: assistant }).finalRun(), busy);
    await refused(submit(), `Expected tool outputs for ${ids}`);
    assert.equal((await runs.cancel(id, place)).status, "cancelled");
    await refused(submit(), 'Runs in status "cancelled" do not accept tool outputs.');
    await refused(runs.cancel(id, place), "Cannot cancel run with status 'cancelled'.");
  });
});
