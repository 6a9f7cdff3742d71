"""A planner's index whose files are not loaded yet, and what loads them as the catalogue does, without a database."""

from collections.abc import Callable
from typing import TypeVar

from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import FileRecord, NotLoaded, Section, section_of

_Result = TypeVar("_Result")
_OF_FILES = ("_files", "by_target", "_sources", "_large", "_filed_in", "_passing", "_loaded")
"""What an index holds of files; the rest is shared with the copy."""


def evaluated_lazily(knowledge: PlanningIndex, question: Callable[[PlanningIndex], _Result]) -> _Result:
    """Answer a question from a copy of the index, of which only what the question needs is loaded."""
    copy, fresh = PlanningIndex(), PlanningIndex()
    # What is loaded counts as a change, which the index itself must not take for one.
    own = {name: getattr(fresh, name) for name in _OF_FILES} | {"_changed": dict(knowledge._changed)}
    vars(copy).update(vars(knowledge) | own)
    files = [file for there in knowledge.by_target.values() for file in there.values()]
    copy.mark_unloaded({section_of(file.target) for file in files}, {file.storage for file in files})
    while True:
        try:
            return question(copy)
        except NotLoaded as needed:
            _load(copy, files, needed)


def _load(knowledge: PlanningIndex, files: list[FileRecord], needed: NotLoaded) -> None:
    assert needed.sections or needed.storages
    sections: set[Section] = set(needed.sections)
    sections |= {section_of(file.target) for file in files if file.storage in needed.storages}
    for section in knowledge.unloaded(sections):
        for file in files:
            if section_of(file.target) == section:
                knowledge.load_file(file)
        knowledge.mark_loaded(section)
    for storage in needed.storages:
        knowledge.mark_complete(storage)
