"""Plans by the hundred thousand: the catalogue compiled to numbers, engines' rules over arrays. Needs numpy; imported only by what asks for it."""

from vram.planner.bulk.candidates import candidates
from vram.planner.bulk.facts import Facts, decode
from vram.planner.bulk.place import Place
from vram.planner.bulk.table import VERDICTS, Question, Table

__all__ = ["VERDICTS", "Facts", "Place", "Question", "Table", "candidates", "decode"]
