// The Vercel AI SDK: `baseURL` of each provider, as the provider's page documents. All want the version in it.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

const { TIELINE_URL, TIELINE_MODELS, TIELINE_FAILURES } = process.env;
const v1 = `${TIELINE_URL}/v1`;
// Responses are not stored: with this the SDK sends items themselves, not references to them.
const common = { maxRetries: 0, providerOptions: { openai: { store: false } } };
const PROMPT = "Why do ships carry bells?";
const HARBOUR = { schema: z.object({ name: z.string(), depth_m: z.number().int() }), prompt: "Describe the harbour." };

const compatible = (apiKey) =>
  createOpenAICompatible({
    name: "tieline",
    baseURL: v1,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
const KINDS = {
  compatible: (name, apiKey) => compatible(apiKey).chatModel(name),
  chat: (name, apiKey) => createOpenAI({ baseURL: v1, apiKey }).chat(name),
  responses: (name, apiKey) => createOpenAI({ baseURL: v1, apiKey }).responses(name),
  anthropic: (name, apiKey) => createAnthropic({ baseURL: v1, apiKey })(name),
  gemini: (name, apiKey) => createGoogleGenerativeAI({ baseURL: `${TIELINE_URL}/v1beta`, apiKey })(name),
};

const getWeather = tool({
  description: "Weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sun in ${city}`,
});
const tools = {
  prompt: "Use get_weather for Lisbon.",
  tools: { get_weather: getWeather },
  stopWhen: stepCountIs(3),
  ...common,
};
const names = (steps) => steps.flatMap((step) => step.toolCalls.map((call) => call.toolName));

async function streamed(model) {
  let failed;
  const run = streamText({ model, prompt: PROMPT, ...common, onError: ({ error }) => (failed = error) });
  let text = "";
  for await (const piece of run.textStream) text += piece;
  if (failed) throw failed;
  return { text, usage: await run.usage };
}

async function streamedObject(model) {
  const run = streamObject({ model, ...HARBOUR, ...common });
  for await (const _ of run.partialObjectStream);
  return run.object;
}

async function ask(model) {
  const whole = await generateText({ model, prompt: PROMPT, ...common });
  const { text, usage } = await streamed(model);
  const looped = await generateText({ model, ...tools });
  const streamedLoop = streamText({ model, ...tools });
  await streamedLoop.consumeStream();
  const structured = await generateObject({ model, ...HARBOUR, ...common });
  return {
    text: whole.text,
    stream: text,
    tool: names(looped.steps),
    streamed_tool: names(await streamedLoop.steps),
    loop: looped.text,
    structured: structured.object,
    streamed_structured: await streamedObject(model),
    usage: usage.outputTokens,
  };
}

async function raised(call) {
  try {
    await call();
  } catch (error) {
    return [error?.name ?? typeof error, error?.statusCode ?? null];
  }
  return ["nothing", null];
}

async function errors(made) {
  const failed = {};
  const call = (name, key) => generateText({ model: made(name, key), prompt: PROMPT, ...common });
  for (const name of JSON.parse(TIELINE_FAILURES)) failed[name] = await raised(() => call(name, "caller"));
  failed["wrong-key"] = await raised(() => call(TIELINE_MODELS.split(" ")[0], "tl-wrong"));
  failed.cut = await raised(() => streamed(made("cut", "caller")));
  return failed;
}

const found = { errors: {} };
for (const name of TIELINE_MODELS.split(" ")) {
  found[name] = {};
  for (const [kind, made] of Object.entries(KINDS)) found[name][kind] = await ask(made(name, "caller"));
}
for (const [kind, made] of Object.entries(KINDS)) found.errors[kind] = await errors(made);
console.log(JSON.stringify(found));
