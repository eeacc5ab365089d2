"""Hides personal data and secrets in samples, logs and messages, keeping enough shape to work with."""

import re
from collections.abc import Mapping
from typing import Final

from models.fields import Json, JsonObject

HIDDEN: Final = "[hidden]"
DIGITS_SHOWN: Final = 2

_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase)|secret|token|authorization|api_?key|private_?key|credential|cookie|^pwd$|^dsn$"
    r"|^cvv$|^cvc$|^pin$|connection_(string|url)|signature",
    re.IGNORECASE,
)
_PERSONAL_KEY = re.compile(
    r"(^|_)(first|last|full|maiden|guest|customer|contact|sur|user|bride|groom|partner)_?name(_|$)|^surname$"
    r"|(^|_)(street|address(_line)?|address_?\d|postal_address|home_address)(_|$)|(^|_)(birth|dob|birthday)"
    r"|(^|_)(ssn|passport|tax_id|national_id|iban|card_number|account_number)(_|$)",
    re.IGNORECASE,
)
_MAIL_KEY = re.compile(r"e?_?mail", re.IGNORECASE)
_PHONE_KEY = re.compile(r"(^|_)(phone|mobile|cell|telephone|fax)(_|$|number)", re.IGNORECASE)

_MAIL = re.compile(r"(?<![\w.+%-])([A-Za-z0-9._%+-]{1,64})@([A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d[\d ()/.-]{6,18}\d|\(\d{2,5}\)[ ]?\d[\d -]{4,12}\d|\d{3}-\d{3}-\d{4})(?![\w-])"
)
_BEARER = re.compile(r"\b(bearer|basic|token)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*")
_URL_PASSWORD = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{1,20}://)(?P<user>[^\s:/@]{0,100}):[^\s@/]{1,200}@", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"(?P<key>[\w-]{0,40}(?:password|passwd|secret|token|api[_-]?key|authorization)[\w-]{0,40})"
    r"(?P<sep>[\"']?\s{0,3}[=:]\s{0,3})(?!(?:bearer|basic)\b|<)(?P<value>\"[^\"]{1,200}\"|'[^']{1,200}'|[^\s,;&\"')}]{1,200})",
    re.IGNORECASE,
)


def mask_mail(address: str) -> str:
    """An address by the first letters of its parts: `ann@example.org` becomes `a***@e***.org`."""
    local, _, domain = address.partition("@")
    host, dot, ending = domain.rpartition(".")
    return f"{local[:1]}***@{host[:1]}***{dot}{ending}"


def mask_digits(number: str) -> str:
    """A number with its last two digits and its separators: `+49 30 1234567` becomes `+** ** *****67`."""
    left = sum(letter.isalnum() for letter in number)
    shown: list[str] = []
    for letter in number:
        if letter.isalnum():
            shown.append(letter if left <= DIGITS_SHOWN else "*")
            left -= 1
        else:
            shown.append(letter)
    return "".join(shown)


def mask_word(text: str) -> str:
    """A text by its first letter: `Miller` becomes `M***`."""
    return f"{text[:1]}***" if text else text


def mask_text(text: str) -> str:
    """A message without e-mail addresses, phone, card and account numbers, tokens and passwords."""
    text = _URL_PASSWORD.sub(lambda match: f"{match['scheme']}{match['user']}:***@", text)
    text = _JWT.sub(HIDDEN, text)
    text = _BEARER.sub(lambda match: f"{match[1]} {HIDDEN}", text)
    text = _ASSIGNED.sub(lambda match: f"{match['key']}{match['sep']}{HIDDEN}", text)
    text = _MAIL.sub(lambda match: mask_mail(match[0]), text)
    text = _IBAN.sub(lambda match: mask_digits(match[0]) if _is_iban(match[0]) else match[0], text)
    text = _CARD.sub(lambda match: mask_digits(match[0]) if _is_card(match[0]) else match[0], text)
    return _PHONE.sub(lambda match: mask_digits(match[0]), text)


def mask_value(name: str, value: Json) -> Json:
    """One value under its column or key name; numbers and booleans of harmless names stay as they are."""
    if value is None:
        return None
    if _SECRET_KEY.search(name):
        return HIDDEN
    if isinstance(value, dict):
        return mask_row(value)
    if isinstance(value, list):
        return [mask_value(name, item) for item in value]
    if _PERSONAL_KEY.search(name) or (_PHONE_KEY.search(name) and not isinstance(value, bool)):
        return mask_digits(str(value)) if _PHONE_KEY.search(name) else mask_word(str(value))
    if not isinstance(value, str):
        return value
    if _MAIL_KEY.search(name) and "@" in value:
        return mask_mail(value)
    return mask_text(value)


def mask_row(row: Mapping[str, Json]) -> JsonObject:
    """A row or document with every value masked by its name and by its pattern, to any depth."""
    return {name: mask_value(name, value) for name, value in row.items()}


def _is_card(text: str) -> bool:
    """Luhn's check, so that order numbers and ids of the same length stay readable."""
    digits = [int(letter) for letter in text if letter.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) if index % 2 else digit for index, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 7064's check of an account number (ISO 13616)."""
    compact = text.replace(" ", "")
    moved = compact[4:] + compact[:4]
    return int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1
