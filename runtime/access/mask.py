"""Hides personal data and secrets in samples, logs and messages, keeping enough shape to work with.

A column is judged by its name, a text by its patterns. `name` alone may be a guest's, a contact's, or a vendor's who
trades under their own, so it is hidden, wherever nothing says whose it is. It is shown where it cannot be a person's:
in a column such as `venue_name`, and in a document under a key such as `venue` or `package`.
"""

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
    r"(^|_)(first|last|full|maiden|middle|nick|sur|user|guest|customer|client|contact|bride|groom|couple|partner|spouse"
    r"|person|attendee|invitee|witness|host|owner|planner|organi[sz]er|recipient|sender|employee|staff|author|artist)s?"
    r"_?names?(_|$)|^surname$"
    r"|(^|_)(street|address(_line)?|address_?\d|postal_address|home_address)(_|$)|(^|_)(birth|dob|birthday)"
    r"|(^|_)(ssn|passport|tax_id|national_id|iban|card_number|account_number)(_|$)",
    re.IGNORECASE,
)
_BARE_NAME = re.compile(r"(display_?|preferred_?)?names?|couple", re.IGNORECASE)
_THING = re.compile(
    r"(venue|hall|room|city|country|region|currency|category|package|menu|dish|service|product|season|tag|pipeline|source"
    r"|destination|execution|step|table|column|dataset|schema|file|rule|report|alert|schedule|stream)s?",
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


def mask_value(name: str, value: Json, of: str = "") -> Json:
    """One value under its column or key name; numbers and booleans of harmless names stay as they are.

    `of` is the key that the document is under, or what else it is about.
    """
    if value is None:
        return None
    if _SECRET_KEY.search(name):
        return HIDDEN
    if isinstance(value, dict):
        return mask_row(value, name)
    if isinstance(value, list):
        return [mask_value(name, item, of) for item in value]
    if _PERSONAL_KEY.search(name) or (_PHONE_KEY.search(name) and not isinstance(value, bool)):
        return mask_digits(str(value)) if _PHONE_KEY.search(name) else mask_word(str(value))
    if not isinstance(value, str):
        return value
    if _BARE_NAME.fullmatch(name) and not _THING.fullmatch(of):
        return mask_word(value)
    if _MAIL_KEY.search(name) and "@" in value:
        return mask_mail(value)
    return mask_text(value)


def mask_row(row: Mapping[str, Json], of: str = "") -> JsonObject:
    """A row or document with every value masked by its name and by its pattern, to any depth; `of` says whose it is."""
    return {name: mask_value(name, value, of) for name, value in row.items()}


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
