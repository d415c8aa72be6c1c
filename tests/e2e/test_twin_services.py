"""Stand-ins beside the agent: what the command prints is all that a backend's SDK needs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request

import psutil
from azure.core.credentials import AzureKeyCredential
from azure.eventgrid import EventGridEvent
from azure.eventgrid.aio import EventGridPublisherClient
from azure.storage.blob.aio import BlobServiceClient

CHAT = """
from openai import AzureOpenAI, OpenAI
for client in (AzureOpenAI(), OpenAI()):
    done = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}], max_tokens=1)
    print("ok" if done.choices[0].message.content else "nothing")
"""

SPEECH = """
import os
import azure.cognitiveservices.speech as speech
key = os.environ["SPEECH_KEY"]
for place in ({"endpoint": os.environ["SPEECH_ENDPOINT"]}, {"host": os.environ["SPEECH_HOST"]}):
    speaker = speech.SpeechSynthesizer(speech.SpeechConfig(subscription=key, **place), audio_config=None)
    done = speaker.speak_text_async("Hello").get()
    print("ok" if done.reason == speech.ResultReason.SynthesizingAudioCompleted else done.cancellation_details)
"""


def test_a_backends_clients_work_with_what_is_printed(voxload):
    settings = voxload.write({"eventgrid": {"events_per_s": 10}}, "services.yaml")
    process = voxload.start(
        "twin", "--services", "blob,eventgrid,http,openai,speech,acs", "--service-settings", str(settings), "--json"
    )
    try:
        told = json.loads(process.stdout.readline())
        environment = {name: value for item in told["services"].values() for name, value in item["environment"].items()}
        asyncio.run(use(environment))
        counts = json.load(urllib.request.urlopen(f"{told['services']['eventgrid']['url']}/voxload/counters"))
        assert counts["topic"]["published"] == 10, "the limit is that of the file"
        assert counts["requests"] == {"POST /api/events 200": 1}
        (made,) = json.load(urllib.request.urlopen(f"{told['services']['eventgrid']['url']}/voxload/requests"))
        assert (made["method"], made["path"], made["status"]) == ("POST", "/api/events?api-version=2018-01-01", 200)
        assert made["took_ms"] > 0
        health = json.load(urllib.request.urlopen(f"{environment['API_BASE_URL']}/health"))
        assert health["status"] == "healthy"
        assert environment["COMMUNICATION_SERVICES_ENDPOINT"] == told["services"]["acs"]["url"]
        variables, command = {**os.environ, **environment}, [sys.executable, "-c", CHAT]
        said = subprocess.run(command, env=variables, capture_output=True, check=False)
        assert said.stdout.split() == [b"ok", b"ok"], said.stderr
        said = subprocess.run([sys.executable, "-c", SPEECH], env=variables, capture_output=True, check=False)
        assert said.stdout.split() == [b"ok", b"ok"], said.stderr
    finally:
        process.terminate()
        done = voxload.finish(process)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err


async def use(environment):
    async with BlobServiceClient.from_connection_string(environment["AZURE_STORAGE_CONNECTION_STRING"]) as client:
        container = await client.create_container("calls")
        await container.upload_blob("b", b"content")
        assert await (await container.download_blob("b")).readall() == b"content"
    credential = AzureKeyCredential(environment["EVENTGRID_ACCESS_KEY"])
    async with EventGridPublisherClient(environment["EVENTGRID_TOPIC_ENDPOINT"], credential, retry_total=0) as client:
        await client.send([EventGridEvent("s", "t", {}, "1") for _ in range(10)])


def test_mistakes_are_listed(voxload):
    settings = voxload.write({"blob": {"latency": "1ms"}, "eventgrid": {}}, "services.yaml")
    done = voxload("twin", "--services", "blb,eventgrid", "--service-settings", str(settings))
    assert done.code == 2
    assert "did you mean blob?" in done.err
    assert "services.yaml:2: 'blob' is not among --services" in done.err
    wrong = voxload.write({"blob": {"latency": "soon", "account": "A"}}, "services.yaml")
    done = voxload("twin", "--services", "blob", "--service-settings", str(wrong))
    assert done.code == 2
    assert "latency" in done.err and "account" in done.err
    assert "Traceback" not in done.err


def test_a_stand_in_that_dies_ends_the_command(voxload):
    process = voxload.start("twin", "--services", "http", "--json")
    json.loads(process.stdout.readline())
    (stand_in,) = psutil.Process(process.pid).children()
    stand_in.kill()
    done = voxload.finish(process, 20)
    assert done.code == 3
    assert "the stand-in for a backend died (exit code -9)" in done.err
    assert "Traceback" not in done.err
