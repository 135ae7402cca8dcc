"""Keys and certificates as kubeadm makes them: subjects, usages, names and lifetimes of the recordings."""

import concurrent.futures
import datetime
import hashlib
import ipaddress
import os
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from standin import paths

YEAR = datetime.timedelta(days=365)
BACKDATE = datetime.timedelta(minutes=5)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


class Pair:
    """A certificate and its key."""

    def __init__(self, certificate: x509.Certificate, key):
        self.certificate, self.key = certificate, key

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return key_pem(self.key)

    def write(self, base: pathlib.Path) -> None:
        paths.write(base.with_name(base.name + ".key"), self.key_pem(), 0o600)
        paths.write(base.with_name(base.name + ".crt"), self.pem(), 0o644)


_ready: list[concurrent.futures.Future] = []


def prepare_keys(count: int) -> None:
    """Begins making keys on all processors; on an emulated one each takes a second or more."""
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    _ready.extend(pool.submit(_generate) for _ in range(count))
    pool.shutdown(wait=False)


def new_key():
    return _ready.pop(0).result() if _ready else _generate()


def _generate():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def new_small_key():
    """What the kubelet makes for itself."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key) -> bytes:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem(key) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def load(base: pathlib.Path) -> Pair:
    certificate = x509.load_pem_x509_certificate(base.with_name(base.name + ".crt").read_bytes())
    key = serialization.load_pem_private_key(base.with_name(base.name + ".key").read_bytes(), None)
    return Pair(certificate, key)


def exists(base: pathlib.Path) -> bool:
    return all(base.with_name(base.name + suffix).exists() for suffix in (".crt", ".key"))


def authority(name: str) -> Pair:
    """A self-signed CA of ten years."""
    key = new_key()
    builder = _builder(distinguished_name(name), distinguished_name(name), key.public_key(), 10 * YEAR)
    builder = _usage(builder, sign=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(ca: Pair, name: str, group: str | None, usages: list, names: list[str] = ()) -> Pair:
    """A certificate of one year; `names` are its DNS names and addresses."""
    key = new_key()
    return Pair(certify(ca, key.public_key(), distinguished_name(name, group), usages, names), key)


def certify(ca: Pair, public_key, subject: x509.Name, usages: list, names: list[str] = (), life=YEAR) -> x509.Certificate:
    builder = _builder(subject, ca.certificate.subject, public_key, life)
    builder = _usage(builder, sign=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if names:
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(ca.key, hashes.SHA256())


def self_signed(name: str, names: list[str]) -> Pair:
    """The kubelet's own serving certificate."""
    key = new_key()
    builder = _builder(distinguished_name(name), distinguished_name(name), key.public_key(), YEAR)
    alternatives = x509.SubjectAlternativeName([_alternative(each) for each in names])
    builder = builder.add_extension(alternatives, critical=False)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def request(name: str, group: str) -> tuple[bytes, bytes]:
    """(certificate signing request, key), both PEM."""
    key = new_small_key()
    made = x509.CertificateSigningRequestBuilder().subject_name(distinguished_name(name, group)).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM), key_pem(key)


def spki_hash(certificate: x509.Certificate) -> str:
    """The CA pin: sha256 of the public key's DER form."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    der = certificate.public_key().public_bytes(serialization.Encoding.DER, form)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def expires(certificate: x509.Certificate) -> datetime.datetime:
    """In UTC; the name of the property depends on the library's version."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)


def subject(certificate: x509.Certificate) -> tuple[str, list[str]]:
    """(common name, organisations)."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return (names[0].value if names else ""), [group.value for group in groups]


def distinguished_name(name: str, group: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject: x509.Name, issuer: x509.Name, public_key, life: datetime.timedelta) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.not_valid_before(now - BACKDATE).not_valid_after(now + life)
    return builder.serial_number(int.from_bytes(os.urandom(8), "big") >> 1)


def _usage(builder: x509.CertificateBuilder, sign: bool) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return builder.add_extension(usage, critical=True)
