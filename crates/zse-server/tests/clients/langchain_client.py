"""LangChain's chat model for OpenAI's API."""

from langchain_openai import ChatOpenAI
from openai_client import ANSWER, CALCULATOR, QUESTION
from server import KEY, ServerTest


class LangChain(ServerTest):
    """Answers, streams and tool calls by LangChain's own interface."""

    def setUp(self) -> None:
        self.model = ChatOpenAI(
            base_url=f"{self.url}/v1", api_key=KEY, model="builtin", temperature=0, max_retries=0
        )

    def test_invoke(self) -> None:
        answer = self.model.invoke(QUESTION)
        self.assertEqual(answer.content, ANSWER)
        self.assertGreater(answer.usage_metadata["output_tokens"], 5)

    def test_stream(self) -> None:
        self.assertEqual("".join(chunk.content for chunk in self.model.stream(QUESTION)), ANSWER)

    def test_tools(self) -> None:
        answer = self.model.bind_tools([CALCULATOR]).invoke("What is 17 * 23?")
        self.assertEqual(answer.tool_calls[0]["name"], "calculator")
        self.assertEqual(answer.tool_calls[0]["args"], {"expression": "17 * 23"})
