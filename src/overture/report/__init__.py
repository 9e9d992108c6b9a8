"""Reports: one self-contained HTML file a run, a claim or a comparison, the terminal's table, and docs/RESULTS.md.

A page loads nothing from anywhere and runs no script (its content security policy forbids both): styles, figures and sound are inside it.
"""

from overture.report.comparison import write_comparison_report
from overture.report.run import write_run_report
from overture.report.tables import comparison_table, results_markdown

__all__ = ["comparison_table", "results_markdown", "write_comparison_report", "write_run_report"]
