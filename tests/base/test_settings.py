"""Settings: precedence, types, ranges, names nobody reads, and that every one is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead import settings
from fairlead.errors import SettingInvalid, SettingUnknown

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    (tmp_path / settings.FILE_NAME).write_text("port = 1\nhost = '0.0.0.0'\nlog_level = 'info'\n")
    environ = {"FAIRLEAD_PORT": "2", "FAIRLEAD_HOST": "::1", "PATH": "/bin"}
    loaded = settings.load({"project": tmp_path, "port": 3, "host": None}, environ)
    assert (loaded.port, loaded.host, loaded.log_level, loaded.engine_slots) == (3, "::1", "info", 4)


def test_the_project_can_come_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / settings.FILE_NAME).write_text("port = 7\n")
    assert settings.load({}, {"FAIRLEAD_PROJECT": str(tmp_path)}).port == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "eighty"),
        ("port", "-1"),
        ("port", "65536"),
        ("port", "1.5"),
        ("require_key", "maybe"),
        ("request_timeout_s", "0"),
        ("max_depth", "100000"),
    ],
)
def test_a_bad_value_says_where_it_came_from_and_what_was_expected(name: str, value: str) -> None:
    with pytest.raises(SettingInvalid) as caught:
        settings.load({}, {f"FAIRLEAD_{name.upper()}": value})
    text = str(caught.value)
    assert name in text
    assert value in text
    assert f"FAIRLEAD_{name.upper()}" in text
    assert "expected" in text


def test_a_file_with_the_wrong_type_or_broken_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / settings.FILE_NAME
    path.write_text("port = true\n")
    with pytest.raises(SettingInvalid, match=r"settings\.toml.*whole number"):
        settings.load({"project": tmp_path}, {})
    path.write_text("port = \n")
    with pytest.raises(SettingInvalid, match="a TOML file"):
        settings.load({"project": tmp_path}, {})


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(SettingUnknown, match="record_queue"):
        settings.load({}, {"FAIRLEAD_RECORD_QEUE": "1"})


def test_variables_that_are_not_settings_are_left_alone() -> None:
    settings.load({}, {"FAIRLEAD_DATA": "/somewhere", "FAIRLEAD_KEY": "fl-x"})


def test_booleans_are_read_from_words() -> None:
    assert settings.load({}, {"FAIRLEAD_REQUIRE_KEY": "off"}).require_key is False
    assert settings.load({}, {"FAIRLEAD_REQUIRE_KEY": "Yes"}).require_key is True


def test_every_setting_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name, *_ in settings.table() if f"| `{name}` |" not in text] == []
