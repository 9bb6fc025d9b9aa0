"""Settings come from arguments, then the environment, then the defaults; a wrong one says what to write."""

import logging
import math
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pytest

from loopwatch import _settings
from loopwatch._errors import ConfigurationError, LoopwatchError
from loopwatch._settings import Settings, disabled, load

NAMES = (
    "service_name",
    "stall_threshold",
    "prometheus_port",
    "prometheus_host",
    "otlp",
    "job_spans",
    "keep_tasks",
    "drain_timeout",
    "app_packages",
    "hold_dump",
    "hold_threshold",
    "console",
    "console_socket",
    "ignore",
    "allow",
)


def variable(name: str) -> str:
    return f"LOOPWATCH_{name.upper()}"


def test_every_field_can_be_given_as_argument_and_as_variable() -> None:
    assert set(Settings.__dataclass_fields__) == set(NAMES) == set(_settings._CHECKS)


@pytest.mark.parametrize(
    ("name", "argument", "text", "expected"),
    [
        ("service_name", "shop", "shop", "shop"),
        ("service_name", " shop ", " shop ", "shop"),
        ("stall_threshold", 0.25, "0.25", 0.25),
        ("stall_threshold", 1, " 1 ", 1.0),
        ("stall_threshold", 0.005, "0.005", 0.005),
        ("stall_threshold", 60, "60", 60.0),
        ("prometheus_port", 0, "0", 0),
        ("prometheus_port", 65535, "65535", 65535),
        ("prometheus_port", None, "None", None),
        ("prometheus_port", None, "off", None),
        ("prometheus_host", "0.0.0.0", "0.0.0.0", "0.0.0.0"),
        ("prometheus_host", "::1", "::1", "::1"),
        ("prometheus_host", "fe80::1%eth0", "fe80::1%eth0", "fe80::1%eth0"),
        ("prometheus_host", "büro.example.", "büro.example.", "büro.example."),
        ("keep_tasks", True, "yes", True),
        ("job_spans", True, "yes", True),
        ("console_socket", False, "0", False),
        ("keep_tasks", False, "off", False),
        ("drain_timeout", 8, "8", 8.0),
        ("drain_timeout", 0, "0", 0.0),
        ("drain_timeout", None, "none", None),
        ("app_packages", ("shop",), "shop", ("shop",)),
        ("app_packages", ["shop", "jobs.nightly"], " shop, jobs.nightly ,", ("shop", "jobs.nightly")),
        ("app_packages", (name for name in ("shop", "jobs")), "shop,jobs", ("shop", "jobs")),
        ("hold_dump", True, "yes", True),
        ("hold_dump", False, "0", False),
        ("hold_dump", False, "none", False),
        ("hold_dump", "hold.dump", "hold.dump", "hold.dump"),
        ("hold_dump", Path("hold.dump"), "hold.dump", "hold.dump"),
        ("hold_threshold", 5, "5", 5.0),
        ("hold_threshold", 1, "1", 1.0),
        ("hold_threshold", 86400, "86400", 86400.0),
        ("hold_threshold", None, "none", None),
        ("console", False, "no", False),
        ("console", False, "0", False),
        ("console", True, "1", True),
        ("console", True, "yes", True),
        ("console", 20200, " 20200 ", 20200),
        ("console", "repl", " repl ", "repl"),
        ("ignore", ("LW104",), "LW104", ("LW104",)),
        ("ignore", ["LW104", "LW101:shop.*"], " LW104, LW101:shop.* ,", ("LW104", "LW101:shop.*")),
        ("ignore", ("LW301:db:5432/shop",), "LW301:db:5432/shop", ("LW301:db:5432/shop",)),
        ("allow", ["shop.startup.*", "main"], "shop.startup.*,main", ("shop.startup.*", "main")),
    ],
)
def test_argument_and_variable_mean_the_same(
    name: str, argument: object, text: str, expected: object
) -> None:
    from_argument = getattr(load({name: argument}, {}), name)
    from_variable = getattr(load({}, {variable(name): text}), name)
    assert from_argument == from_variable == expected
    assert type(from_argument) is type(from_variable) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("stall_threshold", 0.0049, "0.005 to 60"),
        ("stall_threshold", 60.1, "0.005 to 60"),
        ("stall_threshold", -0.1, "0.005 to 60"),
        ("stall_threshold", math.nan, "0.005 to 60"),
        ("stall_threshold", math.inf, "0.005 to 60"),
        ("stall_threshold", 10**400, "0.005 to 60"),
        ("stall_threshold", True, "bool"),
        ("stall_threshold", "0.1", "str"),
        ("stall_threshold", None, "NoneType"),
        ("stall_threshold", Decimal("0.1"), "Decimal"),
        ("prometheus_port", 65536, "0 to 65535"),
        ("prometheus_port", -1, "0 to 65535"),
        ("prometheus_port", True, "bool"),
        ("prometheus_port", 80.0, "float"),
        ("prometheus_port", "9464", "str"),
        ("prometheus_host", "", "non-empty"),
        ("prometheus_host", None, "non-empty"),
        ("prometheus_host", ".example", "no name of a host"),
        ("prometheus_host", "a" * 70, "no name of a host"),
        ("prometheus_host", "a\0b", "null character"),
        ("service_name", "  ", "non-empty"),
        ("service_name", 7, "non-empty"),
        ("keep_tasks", 1, "neither True nor False"),
        ("job_spans", None, "neither True nor False"),
        ("console_socket", "yes", "neither True nor False"),
        ("keep_tasks", "yes", "neither True nor False"),
        ("drain_timeout", -1, "0 to 86400"),
        ("drain_timeout", math.nan, "0 to 86400"),
        ("drain_timeout", 10**400, "0 to 86400"),
        ("drain_timeout", True, "bool"),
        ("drain_timeout", "8", "str"),
        ("hold_threshold", 0.99, "1 to 86400"),
        ("hold_threshold", 86401, "1 to 86400"),
        ("hold_threshold", math.nan, "1 to 86400"),
        ("hold_threshold", True, "bool"),
        ("hold_threshold", "60", "str"),
        ("app_packages", "shop", "app_packages=('shop'"),
        ("app_packages", 7, "module names"),
        ("app_packages", ("shop", 7), "7"),
        ("app_packages", ("not a name",), "not a name"),
        ("app_packages", ("shop..jobs",), "shop..jobs"),
        ("console", None, "NoneType"),
        ("console", 65536, "0 to 65535"),
        ("console", -1, "0 to 65535"),
        ("console", "20101", "str"),
        ("console", "shell", "'repl'"),
        ("console", 20101.0, "float"),
        ("hold_dump", None, "True, False"),
        ("hold_dump", "", "True, False"),
        ("hold_dump", 1, "True, False"),
        ("hold_dump", "/no/such/place/hold.dump", "/no/such/place"),
        ("hold_dump", "/", "file"),
        ("hold_dump", "a\0b", "null character"),
        ("ignore", "LW104", "not a sequence of texts"),
        ("ignore", 104, "ignore=('LW104'"),
        ("ignore", (104,), "104"),
        ("ignore", ("LW999",), "there is no rule 'LW999'"),
        ("ignore", ("lw104",), "did you mean LW104? Give rules"),
        ("ignore", ("none",), "LW502. Give rules"),
        ("ignore", ("LW104", "app.startup.*"), "there is no rule 'app.startup.*'"),
        ("ignore", ("LW101:",), "no pattern after its colon"),
        ("allow", "app.startup.*", "not a sequence of texts"),
        ("allow", None, "not a sequence of texts"),
        ("allow", ("",), "not a text with something in it"),
        ("allow", ("*",), "allows everything"),
        ("allow", ("LW101:app.*",), "Write ignore=('LW101:app.*',)."),
    ],
)
def test_a_wrong_argument_is_named_with_its_value_and_what_to_write(
    name: str, value: object, says: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load({name: value}, {})
    text = str(raised.value)
    assert text.startswith(f"{name}={value!r}: ")
    assert says in text
    assert text.endswith(".")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("stall_threshold", "fast", "such as 0.1"),
        ("stall_threshold", "nan", "0.005 to 60"),
        ("stall_threshold", "61", "0.005 to 60"),
        ("stall_threshold", "True", "not a number"),
        ("prometheus_port", "http", "or none"),
        ("prometheus_port", "99999", "0 to 65535"),
        ("drain_timeout", "long", "not a number"),
        ("hold_threshold", "long", "not a number"),
        ("hold_threshold", "0", "1 to 86400"),
        ("app_packages", "shop;jobs", "module names"),
        ("hold_dump", "/no/such/place/hold.dump", "/no/such/place"),
        ("console", "99999", "0 to 65535"),
        ("console", "telnet", "neither yes nor no. Write yes, no, a port, or repl."),
        ("console", "-1", "a port, or repl"),
        ("keep_tasks", "maybe", "neither yes nor no. Write yes or no."),
        ("otlp", "grpc", "Write yes or no."),
        ("ignore", "LWX104", "did you mean LW104?"),
        ("allow", "*", "allows everything"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_what_to_write(name: str, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load({}, {variable(name): text})
    assert str(raised.value).startswith(f"{variable(name)}=")
    assert text in str(raised.value)
    assert says in str(raised.value)


def test_the_error_is_a_value_error_too() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ConfigurationError, LoopwatchError)


def test_an_argument_beats_the_environment_which_is_then_not_even_checked() -> None:
    assert load({"stall_threshold": 0.5}, {"LOOPWATCH_STALL_THRESHOLD": "nonsense"}).stall_threshold == 0.5


def test_none_as_argument_is_a_value_that_beats_the_environment() -> None:
    assert load({"prometheus_port": None}, {"LOOPWATCH_PROMETHEUS_PORT": "9000"}).prometheus_port is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_is_as_if_not_set(name: str, empty: str) -> None:
    assert load({}, {variable(name): empty}) == load({}, {})


@pytest.mark.parametrize(
    ("argument", "environ", "expected"),
    [
        ({"service_name": "a"}, {"LOOPWATCH_SERVICE_NAME": "b", "OTEL_SERVICE_NAME": "c"}, "a"),
        ({}, {"LOOPWATCH_SERVICE_NAME": "b", "OTEL_SERVICE_NAME": "c"}, "b"),
        ({}, {"OTEL_SERVICE_NAME": "c"}, "c"),
        ({}, {"OTEL_SERVICE_NAME": ""}, "serve"),
    ],
)
def test_the_service_is_named_by_the_first_who_says(
    argument: dict[str, object], environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/srv/shop/serve.py"])
    assert load(argument, environ).service_name == expected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/srv/shop/serve.py", "x"], "serve"),
        (["/usr/bin/datasette"], "datasette"),
        (["/lib/site-packages/shop/__main__.py"], "shop"),
        (["-c"], "python"),
        (["-m"], "python"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_the_program_names_the_service_otherwise(
    argv: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", argv)
    assert load({}, {}).service_name == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("LOOPWATCH_STALL_TRESHOLD", "did you mean LOOPWATCH_STALL_THRESHOLD?"),
        ("LOOPWATCH_stall_threshold", "did you mean LOOPWATCH_STALL_THRESHOLD?"),
        ("LOOPWATCH_THRESHOLD", "did you mean LOOPWATCH_HOLD_THRESHOLD?"),
        ("LOOPWATCH_PORT", "known are LOOPWATCH_ALLOW, LOOPWATCH_APP_PACKAGES, LOOPWATCH_"),
        ("LOOPWATCH_DISABLE", "did you mean LOOPWATCH_DISABLED?"),
    ],
)
def test_an_unknown_variable_is_warned_of_once_with_the_nearest(
    name: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    load({}, {name: "1", "LOOPWATCH_STALL_THRESHOLD": "0.2", "LOOPWATCHER": "x"})
    [record] = caplog.records
    assert (record.name, record.levelno) == ("loopwatch", logging.WARNING)
    assert name in record.getMessage()
    assert hint in record.getMessage()


def test_below_loopwatch_run_unknown_variables_have_been_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    load({}, {"LOOPWATCH_STALL_TRESHOLD": "1", "LOOPWATCH_RUN": "123"})
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((yes, True) for yes in ("1", "true", " YES ", "on")),
        *((no, False) for no in ("0", "false", "No", "off", "", " ")),
    ],
)
def test_disabled_is_a_yes_or_no(text: str, expected: bool) -> None:
    assert disabled({"LOOPWATCH_DISABLED": text}) is expected


def test_disabled_is_off_by_default() -> None:
    assert disabled({}) is False


def test_disabled_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"LOOPWATCH_DISABLED='maybe': .* Write 1 or 0\."):
        disabled({"LOOPWATCH_DISABLED": "maybe"})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        load({}, {}).stall_threshold = 1.0  # type: ignore[misc]


class TestOtlp:
    """Whether to export: what is asked for, then the variables of OpenTelemetry; and what is installed."""

    ENDPOINT: ClassVar = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}

    @pytest.fixture(params=[True, False], ids=["with the extra", "without the extra"])
    def installed(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
        found = ["an entry point"] if request.param else []
        monkeypatch.setattr("importlib.metadata.entry_points", lambda **wanted: found)
        return bool(request.param)

    def test_it_is_on_where_a_variable_says_where_to(
        self, installed: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert load({}, {}).otlp is False
        assert load({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}).otlp is False
        assert caplog.records == []
        assert load({}, self.ENDPOINT).otlp is installed
        why = "that takes packages that are not installed. Install them: pip install 'loopwatch[otlp]'"
        line = f"loopwatch: OTEL_EXPORTER_OTLP_ENDPOINT is set, but nothing is exported: {why}"
        assert [record.getMessage() for record in caplog.records] == [line] * (not installed)

    def test_an_argument_beats_the_variables(self, installed: bool) -> None:
        assert load({"otlp": False}, self.ENDPOINT).otlp is False
        assert load({"otlp": None}, {}).otlp is False
        assert load({}, {**self.ENDPOINT, "LOOPWATCH_OTLP": "no"}).otlp is False
        for arguments, environ in (({"otlp": True}, {}), ({}, {"LOOPWATCH_OTLP": "1"})):
            if installed:
                assert load(arguments, environ).otlp is True
            else:
                with pytest.raises(ConfigurationError, match=r"pip install 'loopwatch\[otlp\]'"):
                    load(arguments, environ)

    def test_opentelemetry_can_be_switched_off_altogether(self, installed: bool) -> None:
        assert load({"otlp": True}, {**self.ENDPOINT, "OTEL_SDK_DISABLED": " TRUE "}).otlp is False

    def test_a_protocol_nobody_speaks(self, caplog: pytest.LogCaptureFixture) -> None:
        environ = {"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "carrier pigeon"}
        with pytest.raises(ConfigurationError, match=r"LOGS_PROTOCOL='carrier pigeon'.*grpc"):
            load({"otlp": True}, environ)
        assert load({}, environ).otlp is False
        assert "grpc or http/protobuf" in caplog.text
        assert load({"otlp": True}, {**environ, "OTEL_LOGS_EXPORTER": "none"}).otlp is True

    @pytest.mark.parametrize("value", ["yes", 1, "http://127.0.0.1:4317"])
    def test_it_takes_a_yes_or_a_no(self, value: object) -> None:
        with pytest.raises(ConfigurationError, match="Give True, False, or None"):
            load({"otlp": value}, {})

    def test_the_name_of_the_service_may_stand_among_the_attributes(self) -> None:
        environ = {"OTEL_RESOURCE_ATTRIBUTES": "deployment=x, service.name = web%20shop "}
        assert load({}, environ).service_name == "web shop"
        assert load({}, {**environ, "OTEL_SERVICE_NAME": "shop"}).service_name == "shop"
        assert load({"service_name": "jobs"}, environ).service_name == "jobs"


def test_a_console_without_its_extra_is_an_error_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert load({"console": False}, {}).console is False
    with pytest.raises(ConfigurationError, match=r"^console=True: .*pip install 'loopwatch\[console\]'\.$"):
        load({"console": True}, {})
    with pytest.raises(ConfigurationError, match=r"^LOOPWATCH_CONSOLE='repl': .*pip install"):
        load({}, {"LOOPWATCH_CONSOLE": "repl"})
