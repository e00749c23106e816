// Runs a Threads server for a Vitest suite. Copy it beside your vitest.config and name it twice:
//
//   test: { globalSetup: ["./vitest.setup.mjs"], setupFiles: ["./vitest.setup.mjs"] }
//
// THREADS_SERVER names the folder of the server's checkout. Each worker of Vitest has a server of
// its own, started once, and every test finds it as it was at its start: empty, or with the threads
// of THREADS_SEED. `new OpenAI()` talks to it: OPENAI_BASE_URL is set. A test says what its runs
// answer with `setReplies`; without that, a run repeats the last message of the user:
//
//   import { setReplies } from "./vitest.setup.mjs";
//   await setReplies({ match: "*weather*", replies: [{ text: "It is 20 degrees." }] });

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import process from "node:process";

const START_SECONDS = Number(process.env.THREADS_START_SECONDS ?? 120); // the first start installs
const RESET = [
  ["POST", "/_mock/reset"],
  ["DELETE", "/_mock/faults"],
  ["DELETE", "/_mock/replies"],
  ["DELETE", "/_mock/requests"],
  ["PUT", "/_mock/ids", '{"seed": null}'],
  ["PUT", "/_mock/clock", "{}"],
];

// In a worker of Vitest, as a setup file: ask the main process for this worker's server.
if (process.env.VITEST_POOL_ID) {
  const { beforeEach } = await import("vitest");
  const answer = await fetch(`${process.env.THREADS_SERVERS}/${process.env.VITEST_POOL_ID}`);
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  process.env.OPENAI_BASE_URL = text;
  process.env.OPENAI_API_KEY = "any";
  beforeEach(() => control(text, RESET));
}

// Set the reply rules until the test ends (docs/runs.md of the server).
export async function setReplies(...rules) {
  const body = JSON.stringify({ rules });
  await control(process.env.OPENAI_BASE_URL, [["PUT", "/_mock/replies", body]]);
}

// In the main process, as the global setup: start a server when a worker asks for its own.
export async function setup() {
  const servers = new Map();
  const broker = createServer(async ({ url }, response) => {
    try {
      if (!servers.has(url)) servers.set(url, start());
      response.end((await servers.get(url)).base_url);
    } catch (error) {
      response.writeHead(500).end(error.message);
    }
  });
  await once(broker.listen(0, "127.0.0.1"), "listening");
  process.env.THREADS_SERVERS = `http://127.0.0.1:${broker.address().port}`;
  return async () => {
    broker.close();
    broker.closeAllConnections();
    const started = await Promise.allSettled(servers.values());
    await Promise.all(started.map(({ value }) => value?.stop()));
  };
}

async function control(baseURL, requests) {
  const headers = { "Content-Type": "application/json" };
  for (const [method, path, body] of requests) {
    const answer = await fetch(new URL(path, baseURL), { method, body, headers });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  }
}

async function start() {
  const { THREADS_SERVER: folder, MAKEFLAGS: _, ...environment } = process.env;
  if (!folder) throw new Error("THREADS_SERVER must name the checkout of the Threads server.");
  const child = spawn("make", ["-s", "-C", folder, "run"], {
    env: { ...environment, THREADS_DATABASE_URL: "memory", THREADS_BIND: "127.0.0.1:0" },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const ended = once(child, "close");
  let said = "";
  child.stderr.on("data", (chunk) => (said = (said + chunk).slice(-65_536)));
  const timer = setTimeout(() => process.kill(-child.pid, "SIGKILL"), START_SECONDS * 1000);
  const ready = await Promise.race([firstLine(child.stdout), ended.then(() => "")]);
  clearTimeout(timer);
  if (!ready) {
    await ended;
    throw new Error(`The Threads server did not start in ${START_SECONDS} s:\n${said}`);
  }
  const { base_url, pid } = JSON.parse(ready);
  const stop = async () => {
    if (child.exitCode === null) process.kill(pid, "SIGTERM");
    await ended;
  };
  return { base_url, stop };
}

async function firstLine(stream) {
  let text = "";
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    text += chunk;
    if (text.includes("\n")) return text.slice(0, text.indexOf("\n"));
  }
  return "";
}
