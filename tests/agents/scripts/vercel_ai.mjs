// The Vercel AI SDK: createOpenAICompatible with `baseURL`, as its provider's page documents.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { TIELINE_URL, TIELINE_MODELS } = process.env;
const tieline = createOpenAICompatible({
  name: "tieline",
  baseURL: `${TIELINE_URL}/v1`,
  apiKey: "caller",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const getWeather = tool({
  description: "Weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sun in ${city}`,
});

async function ask(model) {
  const prompt = "Why do ships carry bells?";

  const whole = await generateText({ model, prompt, maxRetries: 0 });
  const streamed = streamText({ model, prompt, maxRetries: 0 });
  let stream = "";
  for await (const piece of streamed.textStream) stream += piece;

  const looped = await generateText({
    model,
    prompt: "Use get_weather for Lisbon.",
    tools: { get_weather: getWeather },
    stopWhen: stepCountIs(3),
    maxRetries: 0,
  });
  const structured = await generateObject({
    model,
    schema: z.object({ name: z.string(), depth_m: z.number().int() }),
    prompt: "Describe the harbour.",
    maxRetries: 0,
  });
  const calls = looped.steps.flatMap((step) => step.toolCalls.map((call) => call.toolName));
  return {
    text: whole.text,
    stream,
    tool: calls,
    loop: looped.text,
    structured: structured.object,
    usage: (await streamed.usage).outputTokens,
  };
}

const found = {};
for (const name of TIELINE_MODELS.split(" ")) found[name] = await ask(tieline.chatModel(name));
console.log(JSON.stringify(found));
