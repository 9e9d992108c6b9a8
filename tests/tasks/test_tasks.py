"""The list of tasks."""

import pytest

from overture.errors import OvertureError
from overture.tasks import METRICS, TASKS, find_task


def test_tasks_are_consistent():
    for name, task in TASKS.items():
        assert task.name == name and task.target in task.columns
        assert task.metric in METRICS and task.metric_name
        assert task.closed_set == bool(task.shared) and (not task.closed_set or task.shared == (task.target,))
        assert not set(task.shared) & set(task.disjoint + task.disjoint_if_possible)
    with pytest.raises(OvertureError, match="'speaker-id'"):
        find_task("speakerid")


def test_listing_tasks_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, overture.tasks; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
