"""Tasks: what is decided, from which pixels, and how it is called.

Two tasks are built in. Any other is a file ``task.toml`` in its folder of
models: see :func:`known_tasks`.
"""

from __future__ import annotations

from medkit.tasks.builtin import PNEUMONIA, SKIN, TASKS
from medkit.tasks.described import check_own_name, read_task, task_file, write_task
from medkit.tasks.folders import (
    TRAINED_VARIABLE,
    as_task,
    folder_for_new,
    folder_of,
    folders_of_models,
    get_task,
    known_tasks,
    own_tasks,
    shipped_folder,
    task_names,
    trained_folder,
    user_folder,
)
from medkit.tasks.task import (
    ANY_COLOUR,
    COLOURED,
    GREY,
    TASK_NAME,
    TOML_NAME,
    DatasetLayout,
    Task,
    TaskNotes,
)

__all__ = [
    "ANY_COLOUR",
    "COLOURED",
    "GREY",
    "PNEUMONIA",
    "SKIN",
    "TASKS",
    "TASK_NAME",
    "TOML_NAME",
    "TRAINED_VARIABLE",
    "DatasetLayout",
    "Task",
    "TaskNotes",
    "as_task",
    "check_own_name",
    "folder_for_new",
    "folder_of",
    "folders_of_models",
    "get_task",
    "known_tasks",
    "own_tasks",
    "read_task",
    "shipped_folder",
    "task_file",
    "task_names",
    "trained_folder",
    "user_folder",
    "write_task",
]
