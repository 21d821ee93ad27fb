"""The retail tools as Fairlead reads them: what models are offered, what asks first, and what each gives away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tau2_retail import tools
from benchmarks.tau2_retail.database import Database
from benchmarks.tau2_retail.rules import Refused
from benchmarks.tau2_retail.tasks import IDENTIFIES, PLANS
from fairlead.tools import Context, Customer
from fairlead.tools.arguments import ArgumentsWrong
from fairlead.tools.functions import FunctionTool, MissingCustomer, load_functions
from tests.tau2.retail_data import ADA, BEN, content

NAMES = {
    *IDENTIFIES, *PLANS, "get_user_details", "get_order_details", "list_all_product_types", "get_product_details",
    "get_item_details", "calculate", "transfer_to_human_agents",
}  # fmt: skip
OPEN = {*IDENTIFIES, "list_all_product_types", "get_product_details", "get_item_details", "calculate"}


@pytest.fixture(scope="module")
def served() -> dict[str, FunctionTool]:
    return {tool.name: tool for tool in load_functions(Path(tools.__file__))}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Database.create(tmp_path / "shop.sqlite", content())
    monkeypatch.setenv(tools.FILE, str(tmp_path / "shop.sqlite"))
    return tmp_path / "shop.sqlite"


def call(tool: FunctionTool, who: str | None = None, key: str = "", **arguments: Any) -> Any:
    customer = Customer(id=who) if who else None
    return tool.run(tool.read(arguments), Context(key=key, customer=customer, conversation="c"))


def test_models_are_offered_the_tools_of_the_benchmark(served: dict[str, FunctionTool]) -> None:
    assert {name for name, tool in served.items() if not tool.rule.hidden} == NAMES
    assert all("customer" not in tool.parameters["properties"] for tool in served.values())


def test_whatever_changes_something_asks_first_and_checks_before(served: dict[str, FunctionTool]) -> None:
    for name in PLANS:
        rule = served[name].rule
        assert (rule.effect, rule.customer) == ("writes", True)
        assert rule.ask
        check = served[rule.check]
        assert check.rule.hidden
        assert check.rule.effect == "reads"
        assert set(check.parameters["properties"]) == set(served[name].parameters["properties"])
    assert {name for name, tool in served.items() if tool.rule.effect == "writes"} == set(PLANS)


def test_nothing_personal_without_a_customer(served: dict[str, FunctionTool], shop: Path) -> None:
    personal = NAMES - OPEN - {"transfer_to_human_agents"}
    assert {name for name in NAMES if served[name].rule.customer} == personal
    with pytest.raises(MissingCustomer):
        call(served["get_order_details"], order_id="#W1")


def test_an_order_of_somebody_else_looks_like_one_that_is_not_there(
    served: dict[str, FunctionTool], shop: Path
) -> None:
    foreign = call(served["get_order_details"], ADA, order_id="#W3")
    assert foreign == call(served["get_order_details"], ADA, order_id="#W404")
    assert foreign["found"] is False
    assert call(served["get_user_details"], ADA, user_id=BEN)["found"] is False
    own = call(served["get_order_details"], BEN, order_id="w3")
    assert own["summary"] == "Order #W3 is pending: Desk Lamp ($55.25). Paid: $55.25."


def test_customers_are_recognised_however_they_write_themselves(served: dict[str, FunctionTool], shop: Path) -> None:
    by_name = call(served["find_user_id_by_name_zip"], first_name=" ada", last_name="MOSS", zip="60601")
    by_email = call(served["find_user_id_by_email"], email="Ada.Moss11@Example.com")
    assert by_name["customer"] == by_email["customer"]
    assert by_name["customer"]["id"] == ADA
    nobody = call(served["find_user_id_by_name_zip"], first_name="Ada", last_name="Moss", zip="60602")
    assert nobody == call(served["find_user_id_by_email"], email="no@example.com")
    assert "customer" not in nobody


def test_the_check_says_what_the_change_then_does(served: dict[str, FunctionTool], shop: Path) -> None:
    given = {"order_id": "#W3", "reason": "no longer needed"}
    checked = call(served["check_cancel"], BEN, **given)
    assert checked["question"] == "Shall I cancel order #W3 (no longer needed)?"
    done = call(served["cancel_pending_order"], BEN, key="k", **given)
    assert done["summary"].endswith(checked["costs"])
    assert call(served["cancel_pending_order"], BEN, key="k", **given) == done
    assert call(served["check_cancel"], BEN, **given)["ok"] is False
    with pytest.raises(ArgumentsWrong):
        call(served["check_cancel"], BEN, order_id="#W3", reason="because")


@pytest.mark.parametrize(
    ("expression", "value"), [("1 + 2 * 3", 7.0), ("(1+2)*3", 9.0), ("-4 / 3", -1.33), ("0.1 + 0.2", 0.3)]
)
def test_sums_are_worked_out_to_cents(
    served: dict[str, FunctionTool], shop: Path, expression: str, value: float
) -> None:
    assert call(served["calculate"], expression=expression)["result"] == value


NO_SUMS = (
    "", "1 +", "2 ** 9999999", "9" * 190, "__import__('os')", "a", "'x' * 9", "1 if 1 else 2", "1/0", "True", "1e400",
    "(" * 99 + "1" + ")" * 99, "1e308 * 10 - 1e308 * 10", "-" * 199 + "1", "1j",
)  # fmt: skip


@pytest.mark.parametrize("expression", NO_SUMS)
def test_nothing_else_is_worked_out(served: dict[str, FunctionTool], shop: Path, expression: str) -> None:
    found = call(served["calculate"], expression=expression)
    assert found.get("found") is False or abs(found["result"]) < 1e200


@given(text=st.text(alphabet="0123456789.+-*/() e_", max_size=60))
def test_a_sum_is_a_number_or_refused(text: str) -> None:
    try:
        value = tools.work_out(text)
    except Refused:
        return
    assert value == pytest.approx(value)
