"""A backend's own certificate authority, for networks where no public one issues certificates.

Needs the extra `authority`. The line with which a robot joins has the pin of its certificate.
"""

import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from teleop_schema.certificates.secret_file import write_secret

CERTIFICATE_FILE = "authority.crt"
KEY_FILE = "authority.key"
# Robots have its pin, and would all have to join again.
AUTHORITY_DAYS = 20 * 365
# Browsers accept no server's certificate that is good for more than 398 days.
SERVER_DAYS = 90
# For computers whose clock is behind.
BEFORE = timedelta(days=1)


@dataclass(frozen=True)
class Signed:
    """A certificate with its key, both PEM.

    certificate  followed by those that lead to the authority, if there are any
    key          PKCS #8, not encrypted
    """

    certificate: str
    key: str


@dataclass(frozen=True)
class Authority:
    """A certificate that signs others, with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls) -> Self:
        """A new one; its name ends in something random, so that two can be told apart in a browser's list."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"LeRobot backend {os.urandom(4).hex()}")
        now = datetime.now(UTC)
        public = key.public_key()
        certificate = (
            x509.CertificateBuilder(name, name, public, x509.random_serial_number())
            .not_valid_before(now - BEFORE)
            .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
            # A proxy may put one of its own in between.
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def kept_in(cls, folder: Path) -> Self:
        """The one in this folder, made if there is none yet; raises OSError, and ValueError if it is damaged.

        The folder gets `authority.crt` and `authority.key`, which only its owner can read.
        """
        certificate, key = folder / CERTIFICATE_FILE, folder / KEY_FILE
        if not certificate.exists():
            made = cls.make()
            # The certificate last: where it is, its key is, too.
            write_secret(key, made.signed.key)
            write_secret(certificate, made.signed.certificate)
        found_key = load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(found_key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key} has a key of another kind")
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        if found.public_key() != found_key.public_key():
            raise ValueError(f"{key} is not the key of {certificate}")
        return cls(found, found_key)

    @property
    def signed(self) -> Signed:
        """Itself, for files."""
        return Signed(_pem(self.certificate), _key_pem(self.key))

    def sign_server(self, names: Sequence[str]) -> Signed:
        """A new certificate of a server that is reached under these names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        public = key.public_key()
        own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        certificate = (
            x509.CertificateBuilder(
                self.certificate.subject, _name(names[0][:64]), public, x509.random_serial_number()
            )
            .not_valid_before(now - BEFORE)
            .not_valid_after(now + timedelta(days=SERVER_DAYS))
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Signed(_pem(certificate), _key_pem(key))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    return x509.DNSName(name)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
