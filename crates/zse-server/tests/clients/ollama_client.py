"""The `ollama` Python client."""

import ollama
from openai_client import ANSWER, BERT, CALCULATOR, QUESTION
from server import KEY, ServerTest


class Ollama(ServerTest):
    """Each endpoint as the client's own documentation uses it."""

    models = ["builtin", BERT]

    def setUp(self) -> None:
        self.client = ollama.Client(self.url, headers={"authorization": f"Bearer {KEY}"})
        self.addCleanup(self.client.close)

    def chat(self, messages: list, **more: object):
        return self.client.chat("builtin", messages, options={"temperature": 0}, **more)

    def test_chat(self) -> None:
        answer = self.chat(QUESTION)
        self.assertEqual(answer.message.content, ANSWER)
        self.assertEqual(answer.done_reason, "stop")
        self.assertGreater(answer.eval_count, 5)
        self.assertGreater(answer.created_at, "2020")

    def test_stream(self) -> None:
        parts = list(self.chat(QUESTION, stream=True))
        self.assertEqual("".join(part.message.content for part in parts), ANSWER)
        self.assertGreater(len(parts), 5)
        self.assertTrue(parts[-1].done)

    def test_tools(self) -> None:
        messages = [{"role": "user", "content": "What is 17 * 23?"}]
        message = self.chat(messages, tools=[CALCULATOR]).message
        call = message.tool_calls[0].function
        self.assertEqual((call.name, call.arguments), ("calculator", {"expression": "17 * 23"}))
        streamed = self.chat(messages, tools=[CALCULATOR], stream=True)
        calls = [call for part in streamed for call in part.message.tool_calls or []]
        self.assertEqual(calls[0].function, call)
        messages += [message, {"role": "tool", "content": "391", "tool_name": "calculator"}]
        answer = self.chat(messages, tools=[CALCULATOR])
        self.assertIn("391", answer.message.content)

    def test_generate(self) -> None:
        question = QUESTION[0]["content"]
        options = {"temperature": 0, "num_predict": 100, "stop": ["OUT"], "seed": 1, "top_k": 40}
        answer = self.client.generate("builtin:latest", question, options=options)
        self.assertEqual(answer.response, ANSWER.split("OUT")[0])
        parts = self.client.generate("builtin", question, options=options, stream=True)
        self.assertEqual("".join(part.response for part in parts), answer.response)

    def test_format(self) -> None:
        schema = {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name", "age"],
        }
        messages = [{"role": "user", "content": "Name and age as JSON: Ida is 12 years old."}]
        answer = self.chat(messages, format=schema)
        self.assertEqual(answer.message.content, '{"name": "Ida", "age": 12}')

    def test_embed(self) -> None:
        answer = self.client.embed("bert-mean", ["a cat", "a dog"])
        self.assertEqual(len(answer.embeddings), 2)
        self.assertAlmostEqual(sum(x * x for x in answer.embeddings[0]), 1, places=5)

    def test_models(self) -> None:
        models = self.client.list().models
        self.assertEqual([m.model for m in models], ["builtin:latest", "bert-mean:latest"])
        self.assertEqual(self.client.ps().models[0].context_length, 2048)
        shown = self.client.show("builtin")
        self.assertEqual(shown.modelinfo["general.architecture"], "llama")
        self.assertIn("tools", shown.capabilities)

    def test_stream_that_fails(self) -> None:
        schema, biases = self.impossible()
        options = {"temperature": 0, "logit_bias": biases}
        stream = self.client.chat(
            "builtin", QUESTION, format=schema, options=options, stream=True
        )
        self.assertEqual(next(stream).message.content, '"')
        with self.assertRaises(ollama.ResponseError):
            list(stream)

    def test_errors(self) -> None:
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.chat("nobody", QUESTION)
        self.assertEqual(caught.exception.status_code, 404)
        with self.assertRaises(ollama.ResponseError) as caught:
            self.client.generate("builtin", "a", options={"num_ctx": 10**6})
        self.assertIn("num_ctx", caught.exception.error)
