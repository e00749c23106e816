// Vercel's `ai` 4: AssistantResponse forwards the streams of a run and of its outputs.
import assert from "node:assert/strict";
import { AssistantResponse } from "ai";
import OpenAI from "openai";

const { assistants, threads } = new OpenAI().beta;
const { runs } = threads;
const { id } = await assistants.create({
  model: "gpt-4o",
  tools: [{ type: "function", function: { name: "get_weather" } }],
});

async function ask(threadId, content) {
  const { id: messageId } = await threads.messages.create(threadId, { role: "user", content });
  const response = AssistantResponse({ threadId, messageId }, async ({ forwardStream }) => {
    let run = await forwardStream(runs.stream(threadId, { assistant_id: id }));
    while (run?.status === "requires_action") {
      const tool_outputs = run.required_action.submit_tool_outputs.tool_calls.map((call) => ({
        tool_call_id: call.id,
        output: `20 in ${JSON.parse(call.function.arguments).city}`,
      }));
      const params = { thread_id: threadId, tool_outputs };
      run = await forwardStream(runs.submitToolOutputsStream(run.id, params));
    }
  });
  const lines = (await response.text()).trim().split("\n");
  const texts = lines.filter((line) => line.startsWith("0:"));
  return texts.map((line) => JSON.parse(line.slice(2))).join("");
}

const thread = await threads.create();
assert.equal(await ask(thread.id, "hello"), "hello");
assert.equal(await ask(thread.id, "the weather in Rome?"), "It is 20 degrees.");
