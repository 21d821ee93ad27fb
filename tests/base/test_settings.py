"""Settings: precedence, types, ranges, names nobody reads, and that every one is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead import settings
from fairlead.cli.engines import KEY
from fairlead.errors import SettingInvalid, SettingsUnreadable, SettingUnknown, UsageError

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
        ("request_timeout_s", "nan"),
        ("request_timeout_s", "inf"),
        ("shutdown_grace_s", "nan"),
        ("shutdown_grace_s", "-inf"),
        ("log_level", "bogus"),
        ("proxy", "socks5://proxy:1080"),
        ("proxy", "proxy"),
        ("proxy", "https://proxy:3128"),
        ("private_hosts", "http://llm.example.com"),
        ("private_hosts", "a b"),
        ("cors_origins", "app.example"),
        ("cors_origins", "https://app.example/path"),
        ("cors_origins", "https://a.example https://b.example"),
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("proxy", "env"), ("proxy", "none"), ("proxy", "http://me:pass@proxy.example:3128"), ("proxy", "proxy:3128"),
        ("proxy", "http://[fd00::1]:3128/"), ("private_hosts", ""), ("private_hosts", "llm.example.com, b.example"),
        ("cors_origins", ""), ("cors_origins", "*"), ("cors_origins", "https://app.example, http://localhost:3000/"),
    ],
)  # fmt: skip
def test_texts_of_a_certain_form(name: str, value: str) -> None:
    assert getattr(settings.load({}, {f"FAIRLEAD_{name.upper()}": value}), name) == value


def test_a_password_in_a_proxy_that_is_none_is_not_shown() -> None:
    with pytest.raises(SettingInvalid) as caught:
        settings.load({}, {"FAIRLEAD_PROXY": "socks5://me:planted@proxy:1"})
    assert "planted" not in str(caught.value)


def test_a_file_with_the_wrong_type_or_broken_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / settings.FILE_NAME
    path.write_text("port = true\n")
    with pytest.raises(SettingInvalid, match=r"settings\.toml.*whole number"):
        settings.load({"project": tmp_path}, {})
    path.write_text("port = \n")
    with pytest.raises(SettingsUnreadable, match=r"settings\.toml is not TOML, line 1: invalid value. Write"):
        settings.load({"project": tmp_path}, {})
    path.write_bytes(b'port = 1\nhost = "\xff"\n')
    with pytest.raises(SettingsUnreadable, match="line 2: a byte that is not UTF-8"):
        settings.load({"project": tmp_path}, {})
    path.write_text("port = 1\n\nhost = [\n")
    with pytest.raises(SettingsUnreadable, match="line 3: "):
        settings.load({"project": tmp_path}, {})


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_file_cannot_set_a_number_without_an_end(tmp_path: Path, text: str) -> None:
    (tmp_path / settings.FILE_NAME).write_text(f"segment_s = {text}\n")
    with pytest.raises(SettingInvalid, match="a number, at least 1"):
        settings.load({"project": tmp_path}, {})


def test_a_level_is_one_of_the_four_however_it_is_written() -> None:
    assert settings.load({"log_level": "INFO"}, {}).log_level == "info"
    with pytest.raises(SettingInvalid, match="expected debug, info, warning or error"):
        settings.load({"log_level": "bogus"}, {})


def test_faults_are_collected_where_asked_and_the_rest_is_read(tmp_path: Path) -> None:
    faults = list[UsageError]()
    environ = {"FAIRLEAD_PORT": "x", "FAIRLEAD_PROXI": "none", "FAIRLEAD_RETRIES": "3"}
    (tmp_path / settings.FILE_NAME).write_text("port = \n")
    found = settings.load({"project": tmp_path}, environ, faults=faults)
    assert (found.port, found.retries, found.project) == (8080, 3, tmp_path)
    assert [type(fault) for fault in faults] == [SettingsUnreadable, SettingInvalid, SettingUnknown]


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(SettingUnknown, match="record_queue"):
        settings.load({}, {"FAIRLEAD_RECORD_QEUE": "1"})


def test_variables_that_are_not_settings_are_left_alone() -> None:
    settings.load({}, {"FAIRLEAD_DATA": "/somewhere", "FAIRLEAD_KEY": "fl-x", KEY: "fl-y"})
    assert KEY == "FAIRLEAD_ADMIN_KEY", "as docs/engines.md says"
    assert not {name.removeprefix("FAIRLEAD_").lower() for name in settings.OTHER_VARIABLES} & {
        name for name, *_ in settings.table()
    }


def test_booleans_are_read_from_words() -> None:
    assert settings.load({}, {"FAIRLEAD_REQUIRE_KEY": "off"}).require_key is False
    assert settings.load({}, {"FAIRLEAD_REQUIRE_KEY": "Yes"}).require_key is True


def test_every_setting_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [name for name, *_ in settings.table() if f"| `{name}` |" not in text] == []
