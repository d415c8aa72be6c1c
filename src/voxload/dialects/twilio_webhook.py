"""Twilio's voice webhook: the signed request that tells a backend of a call, and the TwiML that it answers with."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from voxload.dialects.setup import HttpRequest, HttpResponse, SetupFailed, refused
from voxload.model.outcome import Outcome

REDIRECTS_MAX = 10
SKIPPED_VERBS = frozenset({"Say", "Play", "Pause"})
"""What Twilio itself would say, or wait, before it connects the stream."""
SIGNATURE = "x-twilio-signature"

_FORM_HEADERS = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
_FORM_FIELDS_MAX = 100


def sign(token: str, url: str, parameters: Mapping[str, str]) -> str:
    """Return `X-Twilio-Signature`: HMAC-SHA1 over the URL and the sorted parameters, as Twilio's security page says."""
    text = url + "".join(name + parameters[name] for name in sorted(parameters))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()


class Stream(NamedTuple):
    """The media stream that the TwiML connects the call to."""

    url: str
    parameters: Mapping[str, str]


class Webhook:
    """Asks one call's webhook and follows its TwiML up to `<Connect><Stream>`.

    `details` are the parameters of the request; it is signed where there is a `token`, by `signed_url` if that is not
    empty.
    """

    __slots__ = ("_details", "_first", "_redirects", "_signed_url", "_token", "_url")

    def __init__(self, url: str, details: Mapping[str, str], token: str, signed_url: str) -> None:
        self._first = self._url = url
        self._details = details
        self._token = token
        self._signed_url = signed_url
        self._redirects = 0

    def ask(self, method: str = "POST") -> HttpRequest:
        """Return the request to the present URL."""
        url, details, headers, body = self._url, self._details, {"user-agent": "TwilioProxy/1.1"}, b""
        if method == "GET":
            url += ("&" if "?" in url else "?") + urlencode(details)
            details = {}
        else:
            headers |= _FORM_HEADERS
            body = urlencode(details).encode()
        if self._token:
            signed = self._signed_url if self._url == self._first else ""
            headers[SIGNATURE] = sign(self._token, signed or url, details)
        return HttpRequest(method, url, headers, body)

    def read(self, response: HttpResponse) -> HttpRequest | SetupFailed | Stream:
        """Return what the TwiML of an answer leads to."""
        where = urlsplit(self._url).path
        if response.status >= 300:
            return refused(f"the webhook {where}", response.status)
        try:
            root = fromstring(response.body, forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
            return SetupFailed(Outcome.PROTOCOL_ERROR, f"the webhook {where} answered no TwiML: {error}")
        if root.tag != "Response":
            return SetupFailed(Outcome.PROTOCOL_ERROR, f"the webhook {where} answered <{root.tag}>, not <Response>")
        verb = next((verb for verb in root if verb.tag not in SKIPPED_VERBS), None)
        if verb is None:
            return SetupFailed(Outcome.REJECTED, f"the TwiML of {where} ends the call without <Connect><Stream>")
        return self._follow(verb)

    def _follow(self, verb: Element) -> HttpRequest | SetupFailed | Stream:
        match verb.tag:
            case "Connect":
                return self._connect(verb)
            case "Reject":
                return SetupFailed(Outcome.REJECTED, f"the TwiML rejects the call ({verb.get('reason', 'rejected')})")
            case "Hangup":
                return SetupFailed(Outcome.REJECTED, "the TwiML hangs up")
            case "Redirect":
                self._redirects += 1
                if self._redirects > REDIRECTS_MAX:
                    return SetupFailed(Outcome.PROTOCOL_ERROR, f"the TwiML redirects more than {REDIRECTS_MAX} times")
                self._url = urljoin(self._url, (verb.text or "").strip())
                return self.ask(verb.get("method", "POST").upper())
            case "Start":
                hint = "a stream that is started is one-way, the agent could not be heard; use <Connect><Stream>"
                return SetupFailed(Outcome.PROTOCOL_ERROR, f"the TwiML has <Start>: {hint}")
            case tag:
                return SetupFailed(Outcome.PROTOCOL_ERROR, f"the TwiML has <{tag}> before any <Connect><Stream>")

    def _connect(self, verb: Element) -> SetupFailed | Stream:
        stream = verb.find("Stream")
        if stream is None:
            found = next((f"<{noun.tag}>" for noun in verb), "nothing")
            return SetupFailed(Outcome.PROTOCOL_ERROR, f"<Connect> holds {found}, not <Stream>")
        written = stream.get("url", "").strip()
        try:
            parts = urlsplit(urljoin(self._url, written))
        except ValueError:
            parts = urlsplit("")
        if not written or not parts.netloc:
            return SetupFailed(Outcome.PROTOCOL_ERROR, f"<Stream> has no usable url: {written!r}")
        if parts.query:
            hint = "Twilio does not take it; send <Parameter> elements"
            return SetupFailed(Outcome.PROTOCOL_ERROR, f"the url of <Stream> has a query string: {hint}")
        parameters = {item.get("name", ""): item.get("value", "") for item in stream.iter("Parameter")}
        return Stream(parts.geturl(), parameters)


# --- the backend's side -----------------------------------------------------------------------------------------------


def read_form(body: bytes) -> dict[str, str]:
    """Return the parameters of a webhook request.

    Raises:
        ValueError: the body is not a form.
    """
    return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FORM_FIELDS_MAX))


def connect_stream(url: str, parameters: Mapping[str, str]) -> bytes:
    """Return the TwiML that connects a call to the stream at `url`."""
    response = Element("Response")
    stream = SubElement(SubElement(response, "Connect"), "Stream", {"url": url})
    for name, value in parameters.items():
        SubElement(stream, "Parameter", {"name": name, "value": value})
    return bytes(tostring(response, "utf-8", xml_declaration=True))
