"""What only the settings allow: private addresses, and the folders that pipelines may touch."""

from pathlib import Path

import pytest

from models.errors import Denied
from runtime.connectors._http_config import Endpoint, HttpConfig
from runtime.connectors.csv_files import CsvConfig
from runtime.connectors.permits import Permits
from runtime.settings import Environment, Settings


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("claimed", [True, False])
def test_private_addresses_are_the_settings_to_allow_whatever_a_configuration_says(
    allowed: bool, claimed: bool
) -> None:
    config = HttpConfig(
        base_url="http://localhost", endpoints={"x": Endpoint(path="/")}, allow_private_addresses=claimed
    )
    granted = Permits(private_addresses=allowed).applied(config)
    assert isinstance(granted, HttpConfig)
    assert granted.allow_private_addresses is allowed


def test_only_the_open_folders_are_touched(tmp_path: Path) -> None:
    permits = Permits(file_roots=(tmp_path / "open",))
    assert permits.applied(CsvConfig(root=str(tmp_path / "open" / "guests")))
    for closed in (tmp_path, tmp_path / "opened", tmp_path / "open" / ".." / "other"):
        with pytest.raises(Denied, match="not open to pipelines") as refused:
            permits.applied(CsvConfig(root=str(closed)))
        assert "WEDSYNC_FILE_ROOTS" in (refused.value.hint or "")


def test_a_link_out_of_an_open_folder_is_followed_before_it_is_judged(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to("/etc")
    with pytest.raises(Denied):
        Permits(file_roots=(tmp_path / "open",)).applied(CsvConfig(root=str(tmp_path / "open" / "link")))


def test_the_homes_own_files_are_closed_from_inside_and_from_above(tmp_path: Path) -> None:
    permits = Permits.of(Settings(home=tmp_path / "home"))
    for root in (tmp_path / "home" / "secrets", tmp_path / "home" / "postgres" / "base", tmp_path / "home", Path("/")):
        with pytest.raises(Denied, match="own files"):
            permits.applied(CsvConfig(root=str(root)))
    assert permits.applied(CsvConfig(root=str(tmp_path / "home" / "guest-files")))


def test_in_production_no_folder_is_open_until_one_is_named() -> None:
    assert Settings(environment=Environment.PRODUCTION).file_roots == ()
    assert Settings(environment=Environment.DEVELOPMENT).file_roots is None
