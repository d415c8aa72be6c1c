"""Our own client of the Speech service against services that do what the protocol allows, and what it does not."""

from __future__ import annotations

import asyncio
import json
import ssl
from importlib import resources
from types import SimpleNamespace

import pytest
from component_runs import Ran, constant
from speech_service import Peer, Service

from voxload.audio.corpus import load_corpus
from voxload.errors import RunAbortedError
from voxload.services.speech.client import Credentials
from voxload.speech_protocol import text_message

KEY = {"access_key": "a-key-of-the-service"}
FIRST = load_corpus().find("test_results-slt-2")[0]
"""The shortest utterance: 1.7 s of speech."""
FILE = resources.files("voxload.audio") / "data" / f"{FIRST.id}.wav"
ONE = {
    "utterances": 1,
    "finish": "close",
    "final_timeout": "1s",
    "audio": [{"file": str(FILE), "text": FIRST.text}],
}


def speech(service: Service, load=None, **options) -> Ran:
    return Ran("speech", load or constant(2, "500ms"), endpoint=service.url, **{**KEY, "stt": ONE, **options})


async def understand(peer: Peer) -> None:
    """Take all audio and understand the utterance in it."""
    await peer.listen()
    await peer.phrase(FIRST.text, 0.1, 1.6)
    await peer.say("turn.end")


async def quietly(peer: Peer) -> None:
    """What a connection does that only tries the address."""
    await peer.socket.wait_closed()


def after_probe(script):
    """Run a script on every connection but the first, which is the probe."""
    seen = []

    async def run(peer: Peer) -> None:
        seen.append(peer)
        await (script if len(seen) > 1 else quietly)(peer)

    return run


async def test_a_stream_is_announced_as_the_sdk_does_and_paced_in_real_time():
    messages, instants = [], []

    async def script(peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        while not messages or messages[-1].path != "audio" or messages[-1].body:
            messages.append(await peer.receive())
            instants.append(loop.time())
        await peer.phrase(FIRST.text, 0.1, 1.6)
        await peer.say("turn.end")

    async with Service(after_probe(script)) as service:
        stt = {**ONE, "segmentation_silence": "300ms", "phrases": ["voxload"], "detailed": True}
        ran = await speech(service, constant(2, "500ms"), stt=stt, language="en-GB")()
    assert ran.ended == {"completed": 1}, ran.errors()
    request = service.handshakes[1]
    assert request.path == "/stt/speech/universal/v2"
    assert request.headers["Ocp-Apim-Subscription-Key"] == KEY["access_key"]
    assert len(request.headers["X-ConnectionId"]) == 32
    config, context, header, *audio, end = messages
    assert [config.path, context.path] == ["speech.config", "speech.context"]
    told = json.loads(context.body)
    assert told["phraseDetection"] == {
        "mode": "CONVERSATION",
        "language": "en-GB",
        "CONVERSATION": {"segmentation": {"segmentationSilenceTimeoutMs": 300, "mode": "Custom"}},
    }
    assert told["dgi"]["Groups"][0]["Items"] == [{"Text": "voxload"}]
    assert told["phraseOutput"]["format"] == "Detailed"
    assert header.body[:4] == b"RIFF" and len(header.body) == 44
    assert {message.request_id for message in (context, header, *audio, end)} == {context.request_id}
    assert {len(message.body) for message in audio[:-1]} == {3200}
    sent = b"".join(message.body for message in audio)
    assert sent == FIRST.samples.tobytes()[: 2 * FIRST.active_end]
    assert not end.body
    # 1.7 s of audio take at least as long, less the time until the first message is complete
    assert instants[-2] - instants[3] == pytest.approx(FIRST.active_end_ns / 1e9 - 0.1, abs=0.15)


async def test_a_turn_that_the_service_ends_is_taken_up_where_it_was_understood():
    turns = []

    async def script(peer: Peer) -> None:
        await peer.receive()  # speech.config
        await peer.receive()
        await peer.say("turn.start", context={"serviceTag": "tag-1"})
        await peer.listen(until_bytes=15 * 3200)
        await peer.phrase("Are my lab", 0.1, 0.92)
        await peer.say("turn.end")
        while peer.request_id in turns or not turns:
            turns.append(peer.request_id)
            message = await peer.receive()
            if message.path == "speech.context":
                turns.append(json.loads(message.body)["continuation"])
                break
        rest = await peer.listen()
        turns.append(rest)
        # offsets count from where the audio of the turn begins: 1.0 s
        await peer.phrase("results back yet?", 0.05, 0.65)
        await peer.say("turn.end")

    async with Service(after_probe(script)) as service:
        ran = await speech(service)()
    assert ran.ended == {"completed": 1}, ran.errors()
    continuation, rest = next(turn for turn in turns if isinstance(turn, dict)), turns[-1]
    assert continuation == {"previousServiceTag": "tag-1", "audio": {"streams": {"1": {"offset": "10000000"}}}}
    assert rest == 2 * FIRST.active_end - 10 * 3200
    assert ran.facts["turns that the service ended early"] == "1"
    assert ran.collector.histogram("stt_wer").mean == 0
    assert ran.count("stt_final_latency") == 1
    assert ran.ms("stt_final_latency", 1) < 500


@pytest.mark.parametrize(
    ("retries", "refusals", "ended", "throttled"),
    [
        (4, [(429, {}), (429, {}), (503, {})], {"completed": 1}, (2, 4)),
        (1, [(429, {}), (429, {})], {"rejected": 1}, (2, 2)),
        (4, [(429, {"Retry-After": "0.3"})], {"completed": 1}, (1, 2)),
        (4, [(403, {})], {"rejected": 1}, (0, 1)),
    ],
)
async def test_refused_handshakes_are_counted_and_tried_again(retries, refusals, ended, throttled):
    async with Service(after_probe(understand)) as service:
        ran = speech(service, retries=retries, back_off="20ms")

        def refuse():
            service.refusals = list(refusals)

        ran.runner._on_ready = refuse  # after the probe
        await ran()
    assert ran.ended == ended, ran.errors()
    histogram = ran.collector.histogram("throttled")
    assert (round(histogram.mean * histogram.count / 1e9), histogram.count) == throttled
    assert ran.facts["throttled"] == str(throttled[0])
    waited_s = float(ran.facts["retries"].split("waited ")[1].split(" s")[0])
    asked = 0.3 if "Retry-After" in refusals[0][1] else {3: 0.02 + 0.04 + 0.08, 2: 0.02, 1: 0.0}[len(refusals)]
    assert waited_s == pytest.approx(asked, abs=0.006)
    if ended == {"rejected": 1}:
        assert f"stt: handshake answered {refusals[-1][0]}" in ran.errors()


async def test_a_service_that_lets_nobody_in_is_told_at_once():
    async with Service(understand, [(401, {})]) as service:
        with pytest.raises(RunAbortedError, match="cannot be used: stt: handshake answered 401"):
            await speech(service)()


async def test_over_tls_the_certificate_is_verified(certificates, monkeypatch):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.cert, certificates.key)
    async with Service(after_probe(understand), tls=tls) as service:
        with pytest.raises(RunAbortedError, match="certificate verify failed"):
            await speech(service)()
        monkeypatch.setenv("SSL_CERT_FILE", certificates.ca)
        ran = await speech(service, stt={**ONE, "detailed": True})()
    assert ran.ended == {"completed": 1}, ran.errors()


class Minting:
    """A credential whose tokens are good for ten minutes from 0."""

    def __init__(self):
        self.asked = []

    async def get_token(self, scope):
        self.asked.append(scope)
        return SimpleNamespace(token=f"token-{len(self.asked)}", expires_on=600 * len(self.asked))


async def test_a_token_of_entra_id_is_renewed_before_it_ends():
    credential, now_s = Minting(), 0
    found = Credentials("", "", credential, lambda: now_s * 1_000_000_000)
    assert await found.headers() == {"Authorization": "Bearer token-1"}
    now_s = 299
    assert await found.headers() == {"Authorization": "Bearer token-1"}
    now_s = 301
    assert await found.headers() == {"Authorization": "Bearer token-2"}
    assert credential.asked == ["https://cognitiveservices.azure.com/.default"] * 2
    assert await Credentials("", "given", None, lambda: 0).headers() == {"Authorization": "Bearer given"}
    assert await Credentials("", "", None, lambda: 0).headers() == {}


async def closes(peer: Peer, code: int, reason: str) -> None:
    await peer.listen(until_bytes=3200)
    await peer.socket.close(code, reason)


async def lost(peer: Peer) -> None:
    await peer.listen(until_bytes=3200)
    peer.socket.transport.abort()


async def says_garbage(peer: Peer) -> None:
    await peer.listen(until_bytes=3200)
    await peer.socket.send("no headers at all")


async def says_bad_json(peer: Peer) -> None:
    await peer.listen(until_bytes=3200)
    await peer.socket.send(text_message("speech.phrase", peer.request_id, b'{"Offset":"x"}').decode())


async def never_ends(peer: Peer) -> None:
    await peer.listen()
    await peer.phrase(FIRST.text, 0.1, 1.6)


async def understands_nothing(peer: Peer) -> None:
    await peer.listen()
    await peer.phrase("", 0.1, 1.6, status="NoMatch")
    await peer.say("turn.end")


@pytest.mark.parametrize(
    ("script", "outcome", "words"),
    [
        (lambda peer: closes(peer, 1007, "Unsupported audio"), "rejected", "code 1007 (Unsupported audio)"),
        (lambda peer: closes(peer, 1011, "oops"), "dropped_by_target", "code 1011 (oops)"),
        (lambda peer: closes(peer, 4429, "Too many requests"), "rejected", "code 4429"),
        (lost, "dropped_by_target", "connection lost"),
        (says_garbage, "protocol_error", "without an empty line"),
        (says_bad_json, "protocol_error", "Offset"),
        (never_ends, "timeout", "did not end the turn within 1 s"),
        (understands_nothing, "step_failed", "nothing was recognised: NoMatch 1 times"),
    ],
    ids=["refused", "closed", "limit", "lost", "garbage", "json", "no end", "no match"],
)
async def test_what_goes_wrong_in_a_stream_is_named(script, outcome, words):
    async with Service(after_probe(script)) as service:
        ran = await speech(service)()
    assert ran.ended == {outcome: 1}
    assert words in ran.errors()
    assert ran.facts["throttled"] == ("1" if "4429" in words else "0")
    # word errors and misses are known only of streams that came to their end
    assert ran.count("stt_missed") == (1 if outcome in {"step_failed", "timeout"} else 0)


async def says_audio(peer: Peer) -> None:
    while (await peer.receive()).path != "ssml":
        pass
    await peer.audio(b"\0" * 16_000)
    await asyncio.sleep(0.2)
    await peer.audio(b"\0" * 16_000)
    await peer.say("turn.end")


async def says_nothing(peer: Peer) -> None:
    while (await peer.receive()).path != "ssml":
        pass
    await peer.say("turn.end")


async def hangs_up(peer: Peer) -> None:
    await peer.receive()
    await peer.socket.close(1007, "Voice is not known")


@pytest.mark.parametrize(
    ("script", "outcome", "words"),
    [
        (says_audio, "completed", ""),
        (says_nothing, "step_failed", "the answer holds no audio"),
        (hangs_up, "rejected", "code 1007 (Voice is not known)"),
        (says_garbage, "protocol_error", "without an empty line"),
    ],
    ids=["audio", "no audio", "refused", "garbage"],
)
async def test_synthesis(script, outcome, words):
    if script is says_garbage:

        async def script(peer: Peer) -> None:
            await peer.receive()
            await peer.socket.send("no headers at all")

    async with Service(after_probe(script)) as service:
        ran = await speech(service, mode="tts", tts={"texts": ["Good <morning>."], "connect": "request"})()
    assert ran.ended == {outcome: 1}
    assert words in ran.errors()
    if outcome == "completed":
        assert ran.facts["characters synthesised"] == "15"
        assert ran.facts["audio synthesised"] == "1.0 s"
        assert ran.collector.histogram("tts_real_time_factor").mean / 1e9 == pytest.approx(0.2, abs=0.1)
        assert ran.count("tts_first_byte") == 1
