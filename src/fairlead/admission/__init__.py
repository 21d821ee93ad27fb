"""Whether a request may start now, and what it costs: rates, budgets, fair turns (see docs/design/admission.md)."""

from fairlead.admission.admission import Admission
from fairlead.admission.gate import Gated
from fairlead.admission.lanes import Lane
from fairlead.admission.purses import Bank
from fairlead.admission.rules import LimitRules
from fairlead.admission.standing import Standing, standings

__all__ = ["Admission", "Bank", "Gated", "Lane", "LimitRules", "Standing", "standings"]
