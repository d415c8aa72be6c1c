"""What a test of chat completions may be told, what it makes of that, and the parts that need no service."""

from __future__ import annotations

import pytest

from voxload.clock import NS_PER_S
from voxload.errors import BadInputError
from voxload.model.source import Source
from voxload.services.openai.client import told_wait_ns
from voxload.services.openai.fast import ServerSentEvents
from voxload.services.openai.lengths import Lengths
from voxload.services.openai.options import DeploymentLoad, OpenaiOptions, OpenaiSettings
from voxload.services.openai.prompts import PromptBook
from voxload.services.openai.usage import DeploymentUsage
from voxload.services.settings import read_settings
from voxload.standins.openai.words import prompt_tokens


def test_made_up_prompts_have_the_length_that_is_asked():
    options = OpenaiOptions(prompt_tokens="40..60", max_tokens={"empirical": [10, 20]})
    book = PromptBook(options, 1, None)
    asks = [book.draw(index) for index in range(500)]
    lengths = [prompt_tokens(ask.messages) - 4 for ask in asks]
    assert (min(lengths), max(lengths)) == (40, 60)
    assert sum(lengths) / 500 == pytest.approx(50, abs=1.5)
    assert sum(ask.max_tokens == 10 for ask in asks) == pytest.approx(250, abs=60)
    assert asks[7] == PromptBook(options, 1, None).draw(7) != PromptBook(options, 2, None).draw(7)
    assert len({ask.messages[0]["content"] for ask in asks}) > 490
    long = PromptBook(OpenaiOptions(prompt_tokens=123_456), 1, None).draw(0)
    assert prompt_tokens(long.messages) - 4 == 123_456


def test_lengths():
    drawn = Lengths.model_validate({"lognormal": {"median": 200, "p95": 800}})
    assert (drawn.at(0.5), drawn.at(0.95)) == (200, 800)
    assert [Lengths.model_validate("1..4").at(share) for share in (0.01, 0.26, 0.51, 0.99)] == [1, 2, 3, 4]
    assert Lengths.model_validate(7).at(0.9) == 7
    assert [Lengths.model_validate({"empirical": [9, 3]}).at(share) for share in (0.1, 0.9)] == [3, 9]


def test_every_mistake_is_told_at_once(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('"fine"\n{"promt": "x"}\nnot json\n{"prompt": "x", "max_tokens": 0}\n{"messages": []}\n')
    options = {"deployments": [{"nme": "a", "weight": 0}], "prompts": "prompts.jsonl", "retries": "many", "strem": True}
    with pytest.raises(BadInputError) as caught:
        read_settings(Source({"component": "openai", "options": options}, str(tmp_path / "f.yaml")), OpenaiSettings, {})
    text = str(caught.value)
    for words in (
        "did you mean name",
        "weight",
        "retries",
        "did you mean stream",
        "prompts.jsonl:2",
        "prompts.jsonl:3",
    ):
        assert words in text, text
    for words in ("not JSON", "max_tokens: expected a number", "messages: expected a list"):
        assert words in text, text
    source = Source({"component": "openai", "options": {"prompts": "none.txt"}}, str(tmp_path / "f.yaml"))
    with pytest.raises(BadInputError, match="no such file"):
        read_settings(source, OpenaiSettings, {})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint": "agent"}, "http://"),
        ({"endpoint": "https://x.openai.azure.com"}, "api_key or entra"),
        ({"endpoint": "https://x/v1", "api_key": "k", "entra": True}, "not both"),
        ({"deployments": ["a", {"name": "a"}]}, "a is there twice"),
        ({"deployments": []}, "at least 1"),
        ({"prompts": "p.txt", "prompt_tokens": 5}, "made-up prompts"),
        ({"stream": False, "slo": {"time_to_first_token": "1s"}}, "needs stream: true"),
        ({"slo": {}}, "time_to_first_token, total or both"),
        ({"body": {"messages": []}}, "set by the component"),
        ({"prompt_tokens": "9..3"}, "must not be larger"),
        ({"prompt_tokens": "few"}, "integer"),
        ({"max_tokens": {"span": 5, "empirical": [5]}}, "exactly one"),
        ({"max_tokens": {"lognormal": {"median": 9, "p95": 3}}}, "median <= p95"),
        ({"client": "curl"}, "sdk"),
    ],
)
def test_settings_that_cannot_work(options, words):
    with pytest.raises(ValueError, match=words):
        OpenaiOptions.model_validate(options)


def test_data_lines_of_a_stream_cut_anywhere():
    stream = b': hello\r\n\r\ndata: {"a":1}\n\ndata:{"b":2}\r\n\r\nevent: x\ndata: [DONE]\n\n'
    for size in range(1, len(stream)):
        events = ServerSentEvents()
        parts = (stream[at : at + size] for at in range(0, len(stream), size))
        assert [event for part in parts for event in events.feed(part)] == [b'{"a":1}', b'{"b":2}', b"[DONE]"], size


def test_shares_of_a_quota():
    def run(*sent):
        usage = DeploymentUsage(DeploymentLoad(name="m", tokens_per_minute=6000, requests_per_minute=60))
        usage.start(0)
        shares, moments = [], [(at_s, 1, number) for number, (at_s, _) in enumerate(sent)]
        for at_s, starts, number in sorted(moments + [(over_s, 0, number) for number, (_, over_s) in enumerate(sent)]):
            if starts:
                usage.sent(number, int(at_s * NS_PER_S))
            else:
                shares += usage.over(number, 100, int(at_s * NS_PER_S))
        return [*shares, *usage.end()], usage

    steady = [(second / 2, second / 2 + 0.1) for second in range(240)]
    shares, usage = run(*steady)
    assert len(shares) == 111, "one a second from the tenth on"
    assert {(share.tokens, share.requests) for share in shares} == {(200.0, 200.0)}, "2 a second of 1 a second"
    (short,), _ = run((0, 4), (1, 5), (2, 6))
    assert (short.tokens, short.requests) == (100, 100), "by when they were sent, not by when they ended"
    burst, _ = run(*((0, 1) for _ in range(60)), (89, 90))
    assert burst[0].tokens == 600, "60 requests of 10 that ten seconds have"
    assert burst[50].tokens == 100
    assert burst[51].tokens == burst[-2].tokens == 0, "a minute later they are forgotten"
    assert burst[-1].tokens == pytest.approx(100 / 6000 * 100)


def test_a_second_is_told_when_nothing_sent_in_it_is_open():
    usage = DeploymentUsage(DeploymentLoad(name="m", tokens_per_minute=6000))
    usage.start(0)
    usage.sent(1, 0)
    usage.sent(2, 1)
    assert list(usage.over(2, 100, 20 * NS_PER_S)) == []
    first, *_ = usage.over(1, 500, 21 * NS_PER_S)
    assert (first.tokens, first.requests) == (60.0, None)
    assert usage.admitted == 2


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1500),
        ({"retry-after": "2"}, 2000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1000),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0),
        ({}, 0),
    ],
)
def test_waits_that_a_service_tells(headers, wait_ms):
    assert told_wait_ns(headers) == wait_ms * 1_000_000
