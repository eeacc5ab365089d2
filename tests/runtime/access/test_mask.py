"""Personal data and secrets are hidden, and what is harmless stays readable."""

import pytest

from models.errors import Invalid
from models.fields import Json, StrictModel, parse
from runtime.access.mask import HIDDEN, mask_row, mask_text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no booking for ann@example.org", "no booking for a***@e***.org"),
        ("call +49 30 1234567 today", "call +** ** *****67 today"),
        ("card 4111 1111 1111 1111 refused", "card **** **** **** **11 refused"),
        ("from DE89 3704 0044 0532 0130 00", "from **** **** **** **** **** 00"),
        ("postgresql://app:hunter2@db/wedding", "postgresql://app:***@db/wedding"),
        ("password=hunter2 was refused", f"password={HIDDEN} was refused"),
        ('{"api_key": "abc123"}', f'{{"api_key": {HIDDEN}}}'),
        ("Authorization: Bearer abcdefghijkl", f"Authorization: Bearer {HIDDEN}"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", f"got {HIDDEN}"),
    ],
)
def test_what_names_a_person_or_opens_a_door_is_hidden(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "column `price` of table vendor_prices is DECIMAL(12, 2), not text",
        "line 17 of guests.csv has 5 fields, 6 are expected",
        "execution 6f1c1b0e-7a39-4c56-9a6e-0d2f3c1b2a19 took 1,234,567 ms",
        "order 1234567890123456 is late",
        "at 2026-11-24T02:40:11.123456+00:00",
        "sign in: send `Authorization: Bearer <token>`",
    ],
)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert mask_text(text) == text


def test_an_error_names_a_key_that_is_called_like_a_secret() -> None:
    class Config(StrictModel):
        root: str

    with pytest.raises(Invalid) as refused:
        parse(Config, {"rooot": "/data", "token": "abc"})
    assert "`token` is not a known key" in mask_text(refused.value.message)


def test_a_row_is_masked_by_the_names_of_its_columns_to_any_depth() -> None:
    row: dict[str, Json] = {
        "guest_name": "Miller",
        "venue_name": "Castle Hill",
        "email": "ann@example.org",
        "phone": "030 1234567",
        "party_size": 4,
        "plus_one": True,
        "notes": "write to bob@example.com",
        "auth": {"access_token": "t0p", "scopes": ["read"]},
        "contacts": [{"email": "eve@example.org"}],
        "dob": None,
    }
    assert mask_row(row) == {
        "guest_name": "M***",
        "venue_name": "Castle Hill",
        "email": "a***@e***.org",
        "phone": "*** *****67",
        "party_size": 4,
        "plus_one": True,
        "notes": "write to b***@e***.com",
        "auth": {"access_token": HIDDEN, "scopes": ["read"]},
        "contacts": [{"email": "e***@e***.org"}],
        "dob": None,
    }


@pytest.mark.parametrize(
    "row",
    [
        {"name": "Miller"},
        {"Name": "Miller", "city": "Ely", "capacity": 80},
        {"display_name": "Miller"},
        {"couple": "Miller"},
        {"names": ["Miller", "Moore"]},
        {"guest": {"name": "Miller"}},
        {"vendor": {"name": "Miller", "contact": {"name": "Moore"}}},
        {"venue": {"name": "Castle Hill", "contact": {"name": "Miller"}}},
        {"planner_name": "Miller"},
        {"guests_names": "Miller"},
        {"ownerName": "Miller"},
    ],
)
def test_a_name_that_may_be_a_persons_is_hidden(row: dict[str, Json]) -> None:
    masked = str(mask_row(row))
    assert "M***" in masked
    assert not any(name in masked for name in ("Miller", "Moore"))


@pytest.mark.parametrize(
    "row",
    [
        {"venue_name": "Castle Hill"},
        {"pipeline_name": "bookings"},
        {"venue": {"name": "Castle Hill"}},
        {"venues": [{"name": "Castle Hill"}]},
        {"booking": {"package": {"name": "Silver", "price": 10}}},
        {"couple": 7},
        {"filename": "guests.csv"},
    ],
)
def test_the_name_of_a_thing_is_shown(row: dict[str, Json]) -> None:
    assert mask_row(row) == row


def test_what_a_row_is_about_says_whose_name_it_has() -> None:
    assert mask_row({"name": "bookings"}, "pipeline") == {"name": "bookings"}
    assert mask_row({"name": "Miller"}, "user") == {"name": "M***"}


def test_masking_takes_time_in_proportion_to_the_text() -> None:
    long = "a" * 200_000 + "@" + "b." * 50_000 + " +" + "1 " * 50_000
    assert mask_text(long)
