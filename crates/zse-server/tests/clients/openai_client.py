"""The `openai` Python client."""

import json

import openai
import pydantic
from server import KEY, ServerTest

BERT = "crates/zse-model/tests/golden/bert-mean.gguf"
QUESTION = [{"role": "user", "content": "How do I quantize a model?"}]
ANSWER = "Use `zse quantize SRC -o OUT.gguf --quant TYPE`."
CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}


class Person(pydantic.BaseModel):
    """What a structured answer is read into."""

    name: str
    age: int


class OpenAi(ServerTest):
    """Each endpoint as the client's own documentation uses it."""

    models = ["builtin", BERT]

    def setUp(self) -> None:
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0)
        self.addCleanup(self.client.close)

    def test_models(self) -> None:
        self.assertEqual([m.id for m in self.client.models.list()], ["builtin", "bert-mean"])
        self.assertEqual(self.client.models.retrieve("builtin").owned_by, "zse")

    def test_chat(self) -> None:
        answer = self.client.chat.completions.create(
            model="builtin", messages=QUESTION, temperature=0, logprobs=True, top_logprobs=1
        )
        self.assertEqual(answer.choices[0].message.content, ANSWER)
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        tokens = answer.choices[0].logprobs.content
        self.assertEqual("".join(t.token for t in tokens), ANSWER)
        self.assertEqual(
            answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens
        )

    def test_stream(self) -> None:
        chunks = list(
            self.client.chat.completions.create(
                model="builtin",
                messages=QUESTION,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, ANSWER)
        self.assertGreater(len(chunks), 5)
        self.assertGreater(chunks[-1].usage.completion_tokens, 5)

    def test_stream_helper(self) -> None:
        with self.client.chat.completions.stream(
            model="builtin", messages=QUESTION, temperature=0
        ) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_completion()
        self.assertEqual(answer.choices[0].message.content, ANSWER)

    def test_tools(self) -> None:
        messages = [{"role": "user", "content": "What is 17 * 23?"}]
        ask = lambda **more: self.client.chat.completions.create(
            model="builtin", messages=messages, tools=[CALCULATOR], temperature=0, **more
        )
        choice = ask().choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        call = choice.message.tool_calls[0]
        self.assertEqual(call.function.name, "calculator")
        self.assertEqual(json.loads(call.function.arguments), {"expression": "17 * 23"})

        deltas = [c.choices[0].delta.tool_calls for c in ask(stream=True) if c.choices]
        calls = [call for delta in deltas if delta for call in delta]
        arguments = "".join(call.function.arguments or "" for call in calls)
        self.assertEqual(json.loads(arguments), {"expression": "17 * 23"})

        messages.append(choice.message.model_dump())
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "391"})
        self.assertIn("391", ask().choices[0].message.content)

    def test_completions(self) -> None:
        ask = lambda **more: self.client.completions.create(
            model="builtin", prompt="Once upon a time", max_tokens=8, temperature=0, **more
        )
        whole = ask(logprobs=2, n=2)
        self.assertEqual(whole.usage.completion_tokens, 16)
        self.assertEqual(whole.choices[0].text, whole.choices[1].text)
        self.assertEqual(len(whole.choices[0].logprobs.top_logprobs[0]), 2)
        streamed = "".join(c.choices[0].text for c in ask(stream=True))
        self.assertEqual(streamed, whole.choices[0].text)

    def test_embeddings(self) -> None:
        tokens = [[5, 6, 7], [8, 9]]
        encoded = self.client.embeddings.create(model="bert-mean", input=tokens)
        listed = self.client.embeddings.create(
            model="bert-mean", input=tokens, encoding_format="float"
        )
        for a, b in zip(encoded.data, listed.data, strict=True):
            self.assertAlmostEqual(sum(x * x for x in a.embedding), 1, places=5)
            for x, y in zip(a.embedding, b.embedding, strict=True):
                self.assertAlmostEqual(x, y, places=6)
        self.assertEqual(encoded.usage.prompt_tokens, 5)

    def test_responses(self) -> None:
        create = lambda input, **more: self.client.responses.create(
            model="builtin", input=input, temperature=0, **more
        )
        first = create(QUESTION[0]["content"])
        self.assertEqual(first.output_text, ANSWER)
        self.assertEqual(first.status, "completed")
        second = create("Thanks!", previous_response_id=first.id)
        self.assertGreater(second.usage.input_tokens, first.usage.input_tokens)
        self.assertEqual(self.client.responses.retrieve(first.id).output_text, ANSWER)

        tool = {"type": "function", **CALCULATOR["function"], "strict": False}
        called = create("What is 17 * 23?", tools=[tool])
        call = called.output[0]
        self.assertEqual(json.loads(call.arguments), {"expression": "17 * 23"})
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "391"}
        told = create([output], tools=[tool], previous_response_id=called.id)
        self.assertIn("391", told.output_text)

    def test_responses_stream(self) -> None:
        with self.client.responses.stream(
            model="builtin", input=QUESTION[0]["content"], temperature=0
        ) as stream:
            texts = [e.delta for e in stream if e.type == "response.output_text.delta"]
            final = stream.get_final_response()
        self.assertEqual("".join(texts), ANSWER)
        self.assertEqual(final.output_text, ANSWER)

    def test_structured_outputs(self) -> None:
        question = "Name and age as JSON: Ida is 12 years old."
        parsed = self.client.chat.completions.parse(
            model="builtin",
            messages=[{"role": "user", "content": question}],
            response_format=Person,
            temperature=0,
        )
        self.assertEqual(parsed.choices[0].message.parsed, Person(name="Ida", age=12))
        answer = self.client.responses.parse(
            model="builtin", input=question, text_format=Person, temperature=0
        )
        self.assertEqual(answer.output_parsed, Person(name="Ida", age=12))

    def test_streams_that_fail(self) -> None:
        schema, biases = self.impossible()
        stream = self.client.chat.completions.create(
            model="builtin",
            messages=QUESTION,
            temperature=0,
            stream=True,
            logit_bias=biases,
            extra_body={"guided_json": schema},
        )
        self.assertEqual(next(stream).choices[0].delta.role, "assistant")
        with self.assertRaises(openai.APIError) as caught:
            list(stream)
        self.assertEqual(caught.exception.type, "server_error")
        form = {"type": "json_schema", "name": "yes", "schema": schema}
        events = list(
            self.client.responses.create(
                model="builtin",
                input=QUESTION,
                temperature=0,
                stream=True,
                text={"format": form},
                extra_body={"logit_bias": biases},
            )
        )
        self.assertEqual(events[-1].type, "response.failed")
        self.assertEqual(events[-1].response.error.code, "server_error")

    def test_errors(self) -> None:
        chat = self.client.chat.completions.create
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(model="builtin", messages=QUESTION, temperature=-1)
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(model="builtin", messages=[{"role": "user", "content": "word " * 3000}])
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.NotFoundError):
            chat(model="gpt-4", messages=QUESTION)
        stranger = self.client.with_options(api_key="wrong")
        with self.assertRaises(openai.AuthenticationError):
            stranger.models.list()
