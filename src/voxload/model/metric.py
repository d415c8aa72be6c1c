"""The catalogue of metrics: what each name means, its unit, and which direction is better."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["latency", "ratio", "score", "level"]

SCALE = 1_000_000_000
"""Histograms hold integers: a value times this. For latencies that makes ns of s; a yes is 1 · SCALE, a no is 0."""


class Metric(NamedTuple):
    """One metric.

    `latency` is a distribution of times; `ratio` a share, the mean of observations that are yes or no; `score` a
    distribution of plain numbers (`unit` says of what); `level` one number for the run, without labels.
    """

    name: str
    kind: Kind
    meaning: str
    better: Literal["lower", "higher"] = "lower"
    unit: str = "s"
    complement_of: str = ""
    """The ratio from which this one is computed, as 1 less its value; it has no series of its own."""

    @property
    def of_component(self) -> bool:
        """Whether only component tests (and the probes of a run, which are such) have values of it."""
        return self.meaning.startswith("component") or self.name.startswith("operation_latency")


def _latency(name: str, meaning: str) -> Metric:
    return Metric(name, "latency", meaning)


def _ratio(name: str, meaning: str, better: Literal["lower", "higher"] = "lower") -> Metric:
    return Metric(name, "ratio", meaning, better, "")


_ALL = (
    _ratio("call_success", "completed calls ÷ attempted calls", "higher"),
    Metric("error_rate", "ratio", "calls that failed ÷ attempted calls", "lower", "", "call_success"),
    _latency("call_setup", "intended arrival → media channel ready"),
    _latency("call_setup_uncorrected", "actual start of the set-up → media channel ready"),
    _latency("greeting", "media channel ready → first audible agent speech"),
    _latency("turn_latency", "caller's last active sample, as scheduled → agent's first active sample"),
    _latency("turn_latency_uncorrected", "the same, from when that sample was really sent"),
    _latency("first_packet", "caller's last active sample → first reply packet above -70 dBFS"),
    _latency("silent_pad", "first reply packet → agent's first active sample"),
    _latency("voice_response", "final transcript → first agent audio"),
    _latency("stt", "caller's last active sample → final transcript"),
    _latency("llm", "final transcript → text of the reply"),
    _latency("tts", "text of the reply → first agent audio"),
    _latency("stage", "caller's last active sample → the agent tells a stage of its work: see the label stage"),
    _latency("dead_air", "both silent while the agent owes the turn"),
    _ratio("missed_response", "turns without a reply in time ÷ turns"),
    _latency("barge_in_stop", "caller's first active sample over the agent → agent's last one"),
    _ratio("yield_rate", "interruptions for which the agent stopped within 2 s ÷ interruptions", "higher"),
    _ratio("false_barge_in", "backchannels and noises that stopped the agent within 1 s ÷ all of them"),
    _ratio("agent_interruption", "turns in which the agent spoke over the caller for 100 ms or more ÷ turns"),
    Metric("mos", "score", "E-model, ITU-T G.107 or G.107.1: see the label scale", "higher", "MOS"),
    _ratio("late_frames", "agent frames too late for the playout buffer ÷ frames"),
    _latency("jitter", "RFC 3550, at the end of a call, bursts left out"),
    Metric("underruns", "score", "times that agent speech broke off, a call", "lower", "a call"),
    Metric("underrun_ms_per_min", "score", "ms of broken-off speech a minute of agent audio", "lower", "ms/min"),
    _latency("dropped_audio", "agent audio that was dropped unplayed when the agent was interrupted, each time"),
    _ratio("clipped_audio", "agent packets at full scale ÷ packets"),
    _ratio("intent_accuracy", "turns whose intent the agent recognised ÷ labelled turns", "higher"),
    _ratio("word_error_rate", "wrong words in the agent's transcripts ÷ words said"),
    Metric("dnsmos", "score", "DNSMOS P.835 overall of recorded calls (extra: quality)", "higher", "MOS"),
    Metric("plcmos", "score", "PLCMOS v2 of recorded calls (extra: quality)", "higher", "MOS"),
    Metric("visqol", "score", "ViSQOL of recorded calls against what the agent sent (extra: visqol)", "higher", "MOS"),
    Metric("dnsmos_loss", "score", "DNSMOS of the clean agent less the call's; 0 where it is no worse", "lower", "MOS"),
    Metric("plcmos_loss", "score", "PLCMOS of the clean agent less the call's; 0 where it is no worse", "lower", "MOS"),
    Metric("visqol_loss", "score", "ViSQOL of the clean agent less the call's; 0 where it is no worse", "lower", "MOS"),
    Metric("call_cost", "score", "priced use of services, a call", "lower", "USD"),
    Metric("talk_ratio", "score", "agent speech ÷ speech of both, a call", "lower", "share"),
    _latency("message_rtt", "WebSocket ping, as scheduled → its pong"),
    _latency("call_duration", "media channel ready → call over"),
    _latency("http_latency", "side traffic: request, as scheduled → whole answer; component test: one API request"),
    _ratio("http_success", "side requests answered below 400 ÷ sent", "higher"),
    _latency("frame_lateness", "the generator's own: frame due → frame sent"),
    _latency("loop_lateness", "the generator's own in a component test: timer due → run"),
    _latency("operation_latency", "component test: intended start → unit of work done"),
    _latency("operation_latency_uncorrected", "the same, from when it really started"),
    _ratio("operation_success", "component test: completed units of work ÷ attempted", "higher"),
    _ratio("throttled", "component test: requests (speech: handshakes, and texts) answered 429 ÷ requests"),
    _latency("publish", "component eventgrid: intended start → publish request answered"),
    _latency("event_delivery", "component eventgrid: publish request begun → event first delivered to our webhook"),
    _ratio("event_loss", "component eventgrid: events not delivered in time ÷ published"),
    _ratio("event_duplicate", "component eventgrid: deliveries of events that had come before ÷ deliveries"),
    _ratio("event_out_of_order", "component eventgrid: events that came after a later one ÷ events that came"),
    _latency("blob_upload", "component blob: object handed to the client → stored"),
    _latency("blob_download", "component blob: asked for → whole object here"),
    _latency("blob_list", "component blob: a call's objects asked for → all names here"),
    _latency("blob_delete", "component blob: asked for → deleted"),
    Metric("blob_throughput", "score", "component blob: bytes of an object ÷ time it took", "higher", "MB/s"),
    _latency("redis_command", "component redis: command or pipeline handed to the client → its answer"),
    _latency("stt_final_latency", "component speech: last active sample of an utterance, as scheduled → final result"),
    _latency("stt_interim_latency", "component speech: end of the audio that an interim result covers → the result"),
    _latency("stt_first_hypothesis", "component speech: first active sample of an utterance → first interim result"),
    _ratio("stt_wer", "component speech: wrong words in final results ÷ words said (word error rate)"),
    _ratio("stt_missed", "component speech: utterances without a final result ÷ utterances said"),
    _latency("tts_first_byte", "component speech: intended start → first byte of audio: see the label connection"),
    Metric(
        "tts_real_time_factor", "score", "component speech: text sent → last audio, ÷ length of the audio", unit="s/s"
    ),
    _latency("speech_connect", "component speech: WebSocket handshake asked for → done; without what was refused"),
    _latency("chat_latency", "component openai: intended start → whole answer, waits for a quota included"),
    _latency("time_to_first_token", "component openai: intended start → first text of a streamed answer"),
    _latency("time_to_first_token_uncorrected", "the same, from when the request that was answered was sent"),
    _latency("inter_token_latency", "component openai: one piece of streamed text → the next"),
    Metric("output_speed", "score", "component openai: tokens after the first ÷ their time", "higher", "tokens/s"),
    Metric("prompt_tokens", "score", "component openai: tokens of a request's prompt, by its usage", unit="tokens"),
    Metric("completion_tokens", "score", "component openai: tokens of its answer, likewise", unit="tokens"),
    _latency("throttle_wait", "component openai: how long a 429 told to wait, each time that it was waited"),
    Metric("token_quota_used", "score", "component openai: tokens that the quota counts ÷ quota", unit="percent"),
    Metric("request_quota_used", "score", "component openai: requests let through ÷ quota", unit="percent"),
    _ratio("slo_met", "component openai: requests that kept the objective (slo:) ÷ attempted", "higher"),
    _latency("media_start", "component acs: CallConnected → first audio on the media socket"),
    _latency("recognize", "component acs: recognition requested → RecognizeCompleted"),
    _latency("hang_up", "component acs: hang-up requested → CallDisconnected"),
    Metric("concurrent_calls", "level", "calls up at once, the highest level held for 5 s", "higher", "calls"),
    Metric("peak_calls", "level", "calls up at once, the highest second", "higher", "calls"),
    Metric("calls", "level", "attempted calls", "higher", "calls"),
    Metric("throughput", "level", "completed calls a second of the load's duration", "higher", "/s"),
    Metric("goodput", "level", "requests that kept slo:, a second of the load's duration", "higher", "/s"),
    Metric("tokens_per_minute", "level", "tokens in and out, a minute of the run", "higher", "/min"),
    Metric("requests_per_minute", "level", "chat completions, a minute of the run", "higher", "/min"),
    Metric("output_token_throughput", "level", "tokens out, a second of the run", "higher", "tokens/s"),
    Metric("cost_per_call", "level", "cost of all calls ÷ completed calls", "lower", "USD"),
    Metric("target_cpu", "score", "CPU of the target (resources:), sampled through the run", "lower", "percent"),
    Metric("target_memory", "score", "memory of the target (resources:), likewise", "lower", "percent"),
    Metric("recovery_time", "level", "last call over → the first probe call that completes is placed"),
    Metric("leaked_sessions", "level", "sessions that the target holds after the load, less before", unit="sessions"),
    Metric("health_failures", "level", "what health endpoints were expected to say and do not", unit="failures"),
    Metric("arrival_rate", "level", "attempted calls a second of the load's duration", "higher", "/s"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by name."""


def is_latency(name: str) -> bool:
    """Return whether a metric is a distribution of times; one that the catalogue does not know is taken for one."""
    return name not in METRICS or METRICS[name].kind == "latency"
