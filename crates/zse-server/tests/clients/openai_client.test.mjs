// The `openai` client for Node: chat, stream and tools against the server at ZSE_URL.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import test from "node:test";

// Installed beside the build, not in the source tree.
const { OpenAI } = createRequire(process.env.ZSE_NODE_MODULES + "/")("openai");
const client = new OpenAI({
  baseURL: process.env.ZSE_URL + "/v1",
  apiKey: process.env.ZSE_KEY,
  maxRetries: 0,
});
const ANSWER = "Use `zse quantize SRC -o OUT.gguf --quant TYPE`.";
const request = {
  model: "builtin",
  messages: [{ role: "user", content: "How do I quantize a model?" }],
  temperature: 0,
};

test("chat", async () => {
  const answer = await client.chat.completions.create(request);
  assert.equal(answer.choices[0].message.content, ANSWER);
});

test("stream", async () => {
  let text = "";
  for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  assert.equal(text, ANSWER);
});

test("a stream that is left", async () => {
  for await (const _ of await client.chat.completions.create({ ...request, stream: true })) break;
  const answer = await client.chat.completions.create(request);
  assert.equal(answer.choices[0].message.content, ANSWER);
});

test("tools", async () => {
  const calculator = {
    type: "function",
    function: {
      name: "calculator",
      parameters: { type: "object", properties: { expression: { type: "string" } } },
    },
  };
  const stream = client.chat.completions.stream({
    ...request,
    messages: [{ role: "user", content: "What is 17 * 23?" }],
    tools: [calculator],
  });
  const answer = await stream.finalChatCompletion();
  const [call] = answer.choices[0].message.tool_calls;
  assert.equal(call.function.name, "calculator");
  assert.deepEqual(JSON.parse(call.function.arguments), { expression: "17 * 23" });
});

test("responses", async () => {
  const question = { model: "builtin", input: "How do I quantize a model?", temperature: 0 };
  const first = await client.responses.create(question);
  assert.equal(first.output_text, ANSWER);
  let text = "";
  for await (const event of await client.responses.create({ ...question, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  assert.equal(text, ANSWER);
  const next = await client.responses.create({
    model: "builtin", input: "Thanks!", previous_response_id: first.id,
  });
  assert.equal(next.previous_response_id, first.id);
});

test("structured outputs", async () => {
  const schema = {
    type: "object", properties: { name: { type: "string" }, age: { type: "integer" } },
    required: ["name", "age"], additionalProperties: false,
  };
  const answer = await client.chat.completions.parse({
    ...request,
    messages: [{ role: "user", content: "Ida is 12 years old." }],
    response_format: { type: "json_schema", json_schema: { name: "person", schema, strict: true } },
  });
  const person = JSON.parse(answer.choices[0].message.content);
  assert.deepEqual(Object.keys(person), ["name", "age"]);
  assert.ok(Number.isInteger(person.age));
});

test("embeddings", async () => {
  const input = [[5, 6, 7], [8, 9]];
  const answer = await client.embeddings.create({ model: "bert-mean", input });
  assert.equal(answer.usage.prompt_tokens, 5);
  for (const { embedding } of answer.data) {
    const length = embedding.reduce((sum, x) => sum + x * x, 0);
    assert.ok(Math.abs(length - 1) < 1e-4, `${length}`);
  }
});

test("errors", async () => {
  await assert.rejects(client.chat.completions.create({ ...request, top_p: 7 }), (error) => {
    assert.equal(error.status, 400);
    assert.equal(error.param, "top_p");
    return true;
  });
});
