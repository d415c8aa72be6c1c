"""Certificates for servers of this package: an authority of their own, and a server certificate that it signs."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from voxload.clock import utc_in
from voxload.errors import RunAbortedError

AUTHORITY_DAYS = 3650
SERVER_DAYS = 365


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where the files lie (PEM)."""

    authority: Path
    """For clients to trust: `REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`."""
    server: Path
    server_key: Path


def ensure_certificates(folder: Path, host: str) -> Certificates:
    """Return certificates for `host` and this machine; the authority of a folder stays the same from run to run.

    Raises:
        RunAbortedError: the folder cannot be written.
    """
    authority, authority_key = folder / "ca.pem", folder / "ca-key.pem"
    server, server_key = folder / "server.pem", folder / "server-key.pem"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (authority.exists() and authority_key.exists()):
            key = ec.generate_private_key(ec.SECP256R1())
            _write_key(authority_key, key)
            authority.write_bytes(_pem(_authority(key)))
        issuer = x509.load_pem_x509_certificate(authority.read_bytes())
        issuer_key = serialization.load_pem_private_key(authority_key.read_bytes(), None)
        assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(server_key, key)
        server.write_bytes(_pem(_server(key, issuer, issuer_key, host)))
    except (OSError, ValueError) as error:
        raise RunAbortedError(f"the certificates in {folder} cannot be made: {error}") from None
    return Certificates(authority, server, server_key)


def server_tls(certificates: Certificates) -> ssl.SSLContext:
    """Return what a server listens with."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.server_key)
    return context


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _name("voxload development authority")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(name, name, key, AUTHORITY_DAYS).add_extension(x509.BasicConstraints(True, 0), critical=True)
    return (
        builder.add_extension(usage, critical=True).add_extension(identifier, critical=False).sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey, host: str
) -> x509.Certificate:
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    addresses = {"127.0.0.1", "::1"}
    try:
        addresses.add(str(ipaddress.ip_address(host)))
    except ValueError:
        names.append(x509.DNSName(host))
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in sorted(addresses)]
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = _builder(_name("voxload server"), issuer.subject, key, SERVER_DAYS)
    return (
        builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority_id, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_in(hours=-1))
        .not_valid_after(utc_in(hours=24 * days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    form = serialization.PrivateFormat.PKCS8
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
