"""Judges: models that say what an answer is worth, treated as instruments that have to be calibrated.

**A judge decides nothing until a record says how well it agrees with people.** A judge is a definition (what is asked,
of which model) and a function that looks at a case; the function may be a model behind a prompt (``prompted``), code
(``peers``), or anything that can be awaited. What it says is read strictly: a case without a verdict is invalid and
counted, never a score. ``agreement`` measures it against labels, ``calibration`` keeps the record and says what it
allows.
"""

from fairlead.evaluate.judges.calibration import Standing, calibrate, calibrated_hashes, standing_of
from fairlead.evaluate.judges.labels import Labelled, read_labels
from fairlead.evaluate.judges.looks import Case, Compared, Definition, Instrument, Judgement, compare, rate, scorer_of
from fairlead.evaluate.judges.prompted import Ask, Said, prompted

__all__ = [
    "Ask",
    "Case",
    "Compared",
    "Definition",
    "Instrument",
    "Judgement",
    "Labelled",
    "Said",
    "Standing",
    "calibrate",
    "calibrated_hashes",
    "compare",
    "prompted",
    "rate",
    "read_labels",
    "scorer_of",
    "standing_of",
]
