"""The clients people use, unchanged, against a live gateway: openai, LangChain, pydantic-ai."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel, SecretStr
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from fairlead.providers.base import Call
from fairlead.providers.scripted import Script, Scripted
from tests.gateway.gateway_harness import House, build, serving

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Where is F-1001?"}]
TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "find_order",
            "description": "Look up an order.",
            "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
        },
    }
]


def answer(call: Call) -> Script:
    """Calls the first tool once, then words its result; says no on demand."""
    messages = call.body.get("messages") or [{"role": "user", "content": ""}]
    last = messages[-1]
    said = last.get("content") if isinstance(last.get("content"), str) else ""
    if "status" in said:
        return Script(status=int(said.split()[-1]), message="because you asked", retry_after="7")
    if "break" in said:
        return Script(text="one two three four", break_after=3)
    if "json" in said:
        return Script(text='{"city": "Lyon", "people": 522250}')
    if call.body.get("tools") and last["role"] != "tool":
        name = call.body["tools"][0]["function"]["name"]
        return Script(tool_calls=((name, '{"order": "F-1001"}'),))
    if last["role"] == "tool":
        return Script(text=f"It says: {last['content']}")
    return Script(text="Your parcel is on its way.")


@pytest.fixture(scope="module")
def house() -> House:
    return build(Scripted(script=answer))


@pytest.fixture(scope="module")
def url(house: House) -> Iterator[str]:
    with serving(house.gateway) as base:
        yield f"{base}/v1"


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="unused", max_retries=0) as made:
        yield made


def ask(said: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": said}]


def test_openai_answers(client: OpenAI) -> None:
    made = client.chat.completions.create(
        model="support",
        messages=HELLO,
        n=2,
        seed=7,
        stop=["\n"],
        temperature=0.1,
        logprobs=True,
        user="ada@example.com",
    )
    assert [choice.message.content for choice in made.choices] == ["Your parcel is on its way."] * 2
    assert made.usage is not None
    assert made.usage.completion_tokens == 6
    assert made.choices[0].logprobs is not None
    assert made.choices[0].logprobs.content is not None
    assert made._request_id is not None


def test_openai_streams(client: OpenAI) -> None:
    with client.chat.completions.create(
        model="support", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        == "Your parcel is on its way."
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6


async def test_openai_async(url: str) -> None:
    async with AsyncOpenAI(base_url=url, api_key="unused") as client:
        made = await client.chat.completions.create(model="support", messages=HELLO)
        assert made.choices[0].message.content == "Your parcel is on its way."
        stream = await client.chat.completions.create(model="support", messages=HELLO, stream=True)
        words = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(words) == "Your parcel is on its way."


def test_openai_calls_tools_and_gets_them_in_pieces(client: OpenAI) -> None:
    made = client.chat.completions.create(model="support", messages=HELLO, tools=TOOLS, tool_choice="auto")
    assert made.choices[0].finish_reason == "tool_calls"
    assert made.choices[0].message.tool_calls is not None
    call = made.choices[0].message.tool_calls[0]
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"order": "F-1001"}
    with client.chat.completions.stream(model="support", messages=HELLO, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    assert final.choices[0].message.tool_calls[0].function.name == "find_order"
    messages: list[Any] = [
        *HELLO,
        made.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "sent"},
    ]
    assert client.chat.completions.create(model="support", messages=messages, tools=TOOLS).choices[
        0
    ].message.content == ("It says: sent")


def test_openai_parses_a_structured_answer(client: OpenAI, house: House) -> None:
    class City(BaseModel):
        city: str
        people: int

    made = client.chat.completions.parse(model="support", messages=ask("json, please"), response_format=City)
    assert made.choices[0].message.parsed == City(city="Lyon", people=522250)
    assert house.upstream.calls[-1].body["response_format"]["json_schema"]["name"] == "City"


def test_openai_completions_embeddings_models(client: OpenAI) -> None:
    assert client.completions.create(model="support", prompt="So").choices[0].text == "Your parcel is on its way."
    made = client.embeddings.create(model="support", input=["a", "b"])  # asks for base64 and decodes it
    plain = client.embeddings.create(model="support", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in made.data] == [pytest.approx(item.embedding) for item in plain.data]
    assert [model.id for model in client.models.list()] == ["support"]
    assert client.models.retrieve("support").owned_by == "fairlead"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("status 400", openai.BadRequestError),
        ("status 401", openai.InternalServerError),  # the operator's key, not the client's: never a 401
        ("status 404", openai.InternalServerError),
        ("status 422", openai.BadRequestError),
        ("status 429", openai.RateLimitError),
        ("status 500", openai.InternalServerError),
        ("status 503", openai.InternalServerError),
    ],
)
def test_openai_raises_the_right_exception(client: OpenAI, said: str, kind: type[openai.APIStatusError]) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model="support", messages=ask(said))
    assert caught.value.request_id
    assert isinstance(caught.value.body, dict)
    if said.endswith(("429", "503")):
        assert caught.value.response.headers["retry-after"] == "7"
    if said.endswith(("401", "404")):
        assert caught.value.status_code == 502


def test_openai_raises_for_what_we_refuse(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Nearest: support"):
        client.chat.completions.create(model="suport", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="temperature is 9"):
        client.chat.completions.create(model="support", messages=HELLO, temperature=9)


def test_openai_raises_in_the_middle_of_a_broken_stream(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="support", messages=ask("break"), stream=True)
    words = []
    with pytest.raises(openai.APIError, match="gave no whole answer"):
        words += [chunk.choices[0].delta.content for chunk in stream]
    for attempt in client.with_options(max_retries=0).models.list():
        assert attempt.id == "support", "the client cannot go on after a broken stream"


@tool
def find_order(order: str) -> str:
    """Look up an order."""
    return f"{order} was sent"


def test_langchain(url: str) -> None:
    model = ChatOpenAI(base_url=url, api_key=SecretStr("unused"), model="support")
    assert model.invoke("Where is it?").content == "Your parcel is on its way."
    pieces = list(model.stream("Where is it?"))
    assert "".join(str(piece.content) for piece in pieces) == "Your parcel is on its way."
    bound = model.bind_tools([find_order])
    made = bound.invoke("Where is F-1001?")
    assert isinstance(made, AIMessage)
    assert made.tool_calls[0]["args"] == {"order": "F-1001"}
    told = ToolMessage(find_order.invoke(made.tool_calls[0]["args"]), tool_call_id=made.tool_calls[0]["id"])
    assert bound.invoke([HumanMessage("Where is F-1001?"), made, told]).content == "It says: F-1001 was sent"


async def test_langchain_async_stream(url: str) -> None:
    model = ChatOpenAI(base_url=url, api_key=SecretStr("unused"), model="support", stream_usage=True)
    pieces = [piece async for piece in model.astream("Where is it?")]
    assert "".join(str(piece.content) for piece in pieces) == "Your parcel is on its way."
    assert sum((piece.usage_metadata or {"output_tokens": 0})["output_tokens"] for piece in pieces) == 6


async def test_pydantic_ai(url: str) -> None:
    async with AsyncOpenAI(base_url=url, api_key="unused") as client:
        model = OpenAIChatModel("support", provider=OpenAIProvider(openai_client=client))
        plain = Agent(model)
        assert (await plain.run("Where is it?")).output == "Your parcel is on its way."
        async with plain.run_stream("Where is it?") as result:
            assert await result.get_output() == "Your parcel is on its way."
        agent = Agent(model)

        @agent.tool_plain(name="find_order")
        def look_up(order: str) -> str:
            """Look up an order."""
            return f"{order} was sent"

        assert (await agent.run("Where is F-1001?")).output == "It says: F-1001 was sent"
