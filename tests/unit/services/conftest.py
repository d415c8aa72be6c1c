"""What several tests of services share."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A certificate authority and a certificate for 127.0.0.1, as paths of PEM files."""
    folder = tmp_path_factory.mktemp("certificates")
    ca, key, cert = (str(folder / name) for name in ("ca.pem", "key.pem", "cert.pem"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    ca_key, request = str(folder / "ca.key"), str(folder / "request")
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for arguments in (
        ["req", "-x509", *curve, "-keyout", ca_key, "-out", ca, "-subj", "/CN=test authority", "-days", "2"],
        ["req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=127.0.0.1"],
        [
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            ca,
            "-CAkey",
            ca_key,
            "-CAcreateserial",
            "-out",
            cert,
            "-days",
            "2",
            "-extfile",
            str(extensions),
        ],
    ):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    return SimpleNamespace(ca=ca, key=key, cert=cert)
