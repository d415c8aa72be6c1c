"""Evidence and histograms as text that fits into a committed JSON file: columns, MessagePack, zstd, base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np
import zstandard

from voxload.measure.evidence import CALLS_MAX, Array, Evidence, Shares, Spans, call_key
from voxload.measure.series import Series

T = TypeVar("T")

PACKED_BYTES_MAX = 64 << 20
"""More than this unpacked is no baseline of ours."""


class _Columns(msgspec.Struct, array_like=True, frozen=True):
    total: int
    runs: list[str]
    run: bytes
    index: bytes
    labels: list[list[tuple[str, str]]]
    label: bytes
    spans: dict[str, tuple[bytes, bytes]]
    """By metric: values a call, buckets."""
    shares: dict[str, tuple[bytes, bytes]]


def pack_series(series: Sequence[Series]) -> str:
    """Return histograms as text."""
    return _pack(msgspec.msgpack.encode(series))


def unpack_series(text: str) -> list[Series]:
    """Return the histograms that `text` was made from.

    Raises:
        ValueError: the text is damaged.
    """
    return _decode(text, list[Series])


def pack_evidence(evidence: Evidence) -> str:
    """Return evidence as text; the turns that values belong to are left out."""
    calls = evidence.calls
    spans = {}
    for metric, each in evidence.spans.items():
        order = np.lexsort((each.bucket, each.call))
        counts = np.bincount(each.call, minlength=calls)
        spans[metric] = (_bytes(counts, "<u4"), _bytes(each.bucket[order], "<u2"))
    shares = {metric: (_bytes(each.good, "<u4"), _bytes(each.count, "<u4")) for metric, each in evidence.shares.items()}
    columns = _Columns(
        evidence.total,
        list(evidence.runs),
        _bytes(evidence.run, "<u2"),
        _bytes(evidence.index, "<u4"),
        [list(labels) for labels in evidence.labels],
        _bytes(evidence.label, "<u2"),
        spans,
        shares,
    )
    return _pack(msgspec.msgpack.encode(columns))


def unpack_evidence(text: str) -> Evidence:
    """Return the evidence that `text` was made from.

    Raises:
        ValueError: the text is damaged.
    """
    columns = _decode(text, _Columns)
    run, index, label = _array(columns.run, "<u2"), _array(columns.index, "<u4"), _array(columns.label, "<u2")
    calls = len(index)
    if not len(run) == calls == len(label) or (calls and run.max() >= len(columns.runs)):
        raise ValueError("its columns do not fit together")
    if calls and label.max() >= len(columns.labels):
        raise ValueError("its columns do not fit together")
    spans = {}
    for metric, (packed_counts, packed_buckets) in columns.spans.items():
        counts, buckets = _array(packed_counts, "<u4"), _array(packed_buckets, "<u2")
        if len(counts) != calls or counts.sum() != len(buckets):
            raise ValueError(f"the values of {metric} do not fit its calls")
        spans[metric] = Spans(np.repeat(np.arange(calls), counts), buckets, np.zeros(len(buckets), np.int64))
    shares = {}
    for metric, (packed_good, packed_count) in columns.shares.items():
        good, count = _array(packed_good, "<u4").astype(float), _array(packed_count, "<u4").astype(float)
        if not len(good) == len(count) == calls:
            raise ValueError(f"the values of {metric} do not fit its calls")
        shares[metric] = Shares(good, count)
    labels = tuple(tuple(each) for each in columns.labels)
    return Evidence(columns.total, tuple(columns.runs), run, index, labels, label, ("",), spans, shares)


def join_evidence(parts: Sequence[Evidence], calls_max: int = CALLS_MAX) -> Evidence:
    """Return the sample of all calls of several samples: exactly the one that would have been drawn from all at once.

    Runs must differ between the parts; turns are left out.
    """
    runs = [run for part in parts for run in part.runs]
    labels = list(dict.fromkeys(label for part in parts for label in part.labels))
    run_at = np.cumsum([0, *(len(part.runs) for part in parts)])
    call_at = np.cumsum([0, *(part.calls for part in parts)])
    run = np.concatenate([part.run + run_at[number] for number, part in enumerate(parts)])
    index = np.concatenate([part.index for part in parts])
    label = np.concatenate(
        [np.array([labels.index(each) for each in part.labels], np.int64)[part.label] for part in parts]
    )
    keys = np.array([call_key(runs[number], int(call)) for number, call in zip(run, index, strict=True)], np.uint64)
    kept = np.sort(np.argsort(keys, kind="stable")[:calls_max])
    place = np.full(len(index), -1)
    place[kept] = np.arange(len(kept))
    spans = {}
    for metric in dict.fromkeys(name for part in parts for name in part.spans):
        having = [(number, part.spans[metric]) for number, part in enumerate(parts) if metric in part.spans]
        call = place[np.concatenate([each.call + call_at[number] for number, each in having])]
        bucket = np.concatenate([each.bucket for _, each in having])
        spans[metric] = Spans(call[call >= 0], bucket[call >= 0], np.zeros(int((call >= 0).sum()), np.int64))
    shares = {}
    for metric in dict.fromkeys(name for part in parts for name in part.shares):
        table = np.zeros((2, len(index)))
        for number, part in enumerate(parts):
            if metric in part.shares:
                each = part.shares[metric]
                table[:, call_at[number] : call_at[number + 1]] = each.good, each.count
        shares[metric] = Shares(table[0, kept], table[1, kept])
    total = sum(part.total for part in parts)
    return Evidence(total, tuple(runs), run[kept], index[kept], tuple(labels), label[kept], ("",), spans, shares)


def _bytes(values: Array, kind: str) -> bytes:
    """Return whole numbers as bytes, the low ones of all first: columns of like bytes pack better."""
    plain = np.ascontiguousarray(values.astype(kind))
    return plain.view(np.uint8).reshape(len(plain), plain.itemsize).T.tobytes()


def _array(packed: bytes, kind: str) -> Array:
    size = np.dtype(kind).itemsize
    if len(packed) % size:
        raise ValueError("a column is cut off")
    planes = np.frombuffer(packed, np.uint8).reshape(size, -1)
    return np.ascontiguousarray(planes.T).view(kind).reshape(-1).astype(np.int64)


def _pack(data: bytes) -> str:
    compressor = zstandard.ZstdCompressor(level=19, write_checksum=True, write_content_size=True)
    return base64.b64encode(compressor.compress(data)).decode()


def _decode(text: str, kind: type[T]) -> T:
    try:
        packed = base64.b64decode(text, validate=True)
        if zstandard.frame_content_size(packed) not in range(PACKED_BYTES_MAX):
            raise ValueError("it is too large, or does not say how large it is")
        data = zstandard.ZstdDecompressor().decompress(packed)
        return msgspec.msgpack.decode(data, type=kind)
    except (binascii.Error, zstandard.ZstdError, msgspec.MsgspecError) as error:
        raise ValueError(str(error)) from None
