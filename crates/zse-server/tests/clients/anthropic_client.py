"""The `anthropic` Python client."""

import anthropic
from openai_client import ANSWER, CALCULATOR, QUESTION
from server import KEY, ServerTest

TOOL = {
    "name": "calculator",
    "input_schema": CALCULATOR["function"]["parameters"],
}


class Anthropic(ServerTest):
    """Messages as the client's own documentation uses them."""

    def setUp(self) -> None:
        self.client = anthropic.Anthropic(base_url=self.url, api_key=KEY, max_retries=0)
        self.addCleanup(self.client.close)

    def create(self, messages: list, **more: object):
        return self.client.messages.create(
            model="builtin", max_tokens=100, messages=messages, extra_body={"temperature": 0}, **more
        )

    def test_message(self) -> None:
        message = self.create(QUESTION, system="Be brief.", stop_sequences=["###"])
        self.assertEqual(message.content[0].text, ANSWER)
        self.assertEqual(message.stop_reason, "end_turn")
        self.assertGreater(message.usage.output_tokens, 5)

    def test_stream(self) -> None:
        with self.client.messages.stream(
            model="builtin", max_tokens=100, messages=QUESTION, extra_body={"temperature": 0}
        ) as stream:
            texts = list(stream.text_stream)
            message = stream.get_final_message()
        self.assertEqual("".join(texts), ANSWER)
        self.assertGreater(len(texts), 5)
        self.assertEqual(message.content[0].text, ANSWER)
        self.assertGreater(message.usage.output_tokens, 5)

    def test_tools(self) -> None:
        messages = [{"role": "user", "content": "What is 17 * 23?"}]
        message = self.create(messages, tools=[TOOL])
        self.assertEqual(message.stop_reason, "tool_use")
        use = message.content[-1]
        self.assertEqual((use.name, use.input), ("calculator", {"expression": "17 * 23"}))
        with self.client.messages.stream(
            model="builtin",
            max_tokens=100,
            messages=messages,
            tools=[TOOL],
            tool_choice={"type": "tool", "name": "calculator"},
            extra_body={"temperature": 0},
        ) as stream:
            streamed = stream.get_final_message()
        self.assertEqual(streamed.content[-1].input, use.input)
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "391"}
        messages += [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
        ]
        self.assertIn("391", self.create(messages, tools=[TOOL]).content[0].text)

    def test_count_tokens(self) -> None:
        count = self.client.messages.count_tokens(model="builtin", messages=QUESTION)
        self.assertGreater(count.input_tokens, 5)

    def test_stream_that_fails(self) -> None:
        schema, biases = self.impossible()
        form = {"format": {"type": "json_schema", "schema": schema}}
        more = {"temperature": 0, "logit_bias": biases, "output_config": form}
        texts = []
        with self.assertRaises(anthropic.APIStatusError) as caught:
            with self.client.messages.stream(
                model="builtin", max_tokens=100, messages=QUESTION, extra_body=more
            ) as stream:
                texts.extend(stream.text_stream)
        self.assertEqual("".join(texts), '"Yes')
        self.assertEqual(caught.exception.body["error"]["type"], "api_error")

    def test_errors(self) -> None:
        with self.assertRaises(anthropic.BadRequestError) as caught:
            self.create([{"role": "user", "content": [{"type": "image", "source": {}}]}])
        self.assertIn("messages[0].content[0]", str(caught.exception))
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(model="gpt", max_tokens=1, messages=QUESTION)
        stranger = self.client.with_options(api_key="wrong")
        with self.assertRaises(anthropic.AuthenticationError):
            stranger.messages.create(model="builtin", max_tokens=1, messages=QUESTION)
